"""`tunesmith eval`: score what was trained earlier, without training."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.commands.arguments import add_overrides, add_trust_remote_code
from core.errors import RecipeError, UserError
from core.launched import keep_threads_calm, rank_of

if TYPE_CHECKING:
    from core.lock import Lock
    from core.recipe import Recipe
    from core.rescore import Target
    from core.types import Plan

HELP = "score a run, an adapter or any model without training; finish a scoring that broke off"
EXAMPLE = "tunesmith eval outputs/quickstart --set evaluation.limit=20"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to score, by which recipe, and where the results go."""
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="the output_dir of a run, a checkpoint in it, an adapter or model folder, a .gguf file, or a hub id",
    )
    parser.add_argument(
        "--recipe",
        metavar="RECIPE",
        type=Path,
        help="whose held-out data, metrics, columns and gates count (default: those of the run's own lock)",
    )
    add_overrides(parser)
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="where the results go (default: the run itself if its scoring broke off, else TARGET/evaluations/N)",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="ask everything anew, and take over no answer of an earlier scoring"
    )
    add_trust_remote_code(parser)


def execute(args: argparse.Namespace) -> int:
    """Score, print the table, write the report: 0, or 3 if a gate failed. Nothing that was scored before is touched."""
    from core.rescore import find_target, output_for

    target = find_target(args.target)
    recipe, lock = _recipe_of(args, target)
    plan = _plan_of(recipe, args, output_for(target, args.output))
    if not plan.evaluation.datasets:
        raise UserError("the recipe names no held-out data to score on", help="list it under evaluation.datasets")
    if rank_of() == 0:
        print(f"scoring {target.address} into {plan.output_dir}", flush=True)

    keep_threads_calm()
    # only now: everything before needs no torch, so that a mistake shows at once
    from core.processes import stop_processes
    from core.rescore import rescore

    try:
        report = rescore(plan, target, lock, fresh=args.fresh)
    except RecipeError as error:
        error.recipe = error.recipe or plan.recipe
        raise
    stop_processes()
    return report.exit_code


def _recipe_of(args: argparse.Namespace, target: Target) -> tuple[Recipe, Lock | None]:
    from core.lock import load_lock, locked_recipe
    from core.recipe import load_recipe

    lock = load_lock(target.lock) if target.lock else None
    if args.recipe is not None:
        return load_recipe(args.recipe, args.overrides), lock
    if lock is None and target.folder is None and not args.target.endswith(".gguf"):
        raise UserError(
            f"there is no folder {args.target!r} here, and a model of the hub has no recipe of its own",
            help="check the path of the run; for a model of the hub add --recipe RECIPE, which names the held-out data",
        )
    if lock is None:
        what = {"adapter": "an adapter", "model": "a model"}.get(target.kind, "a run")
        raise UserError(
            f"{args.target!r} is {what} without a recipe of its own",
            help="add --recipe RECIPE, which names the held-out data and the metrics (and an adapter's base model)",
        )
    return locked_recipe(lock, args.overrides), lock


def _plan_of(recipe: Recipe, args: argparse.Namespace, output: Path) -> Plan:
    from core.check import check_recipe
    from core.check.columns import columns_of
    from core.diagnostics import render_problems
    from core.host import load_host
    from core.plan import make_plan
    from core.rescore import CHECKPOINT_KEYS, needs_training_rows, without_training_keys

    host = load_host()
    compare = (recipe.values.get("evaluation") or {}).get("compare")
    try:
        problems = check_recipe(recipe, host)
        if idle := {problem.key[0] for problem in problems if problem.key[:1] and problem.key[0] in CHECKPOINT_KEYS}:
            # what chooses among checkpoints while a model trains need not go with the metrics of a scoring
            recipe = replace(recipe, values={key: value for key, value in recipe.values.items() if key not in idle})
            problems = check_recipe(recipe, host)
        # the training data may be gone, as long as no example is drawn from them
        rows = not isinstance(compare, list) or needs_training_rows(columns_of(compare))
        plan = make_plan(recipe, host, trust_remote_code=args.trust_remote_code, training=rows)
    except RecipeError as error:
        error.recipe = error.recipe or recipe
        raise
    warnings = [problem for problem in problems if problem.severity == "warning" and problem.key[:1] == ("evaluation",)]
    if warnings and rank_of() == 0:
        print(render_problems(warnings, recipe), file=sys.stderr, flush=True)
    return without_training_keys(plan, output)
