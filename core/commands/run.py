"""`tunesmith run`: one recipe, one run, in this process (on every rank alike when launched)."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.commands.arguments import add_overrides, add_trust_remote_code
from core.errors import Problem, RecipeError, UserError
from core.launched import keep_threads_calm, rank_of

if TYPE_CHECKING:
    from core.host import Host
    from core.lock import Lock
    from core.recipe import Recipe
    from core.types import Plan

HELP = "run a recipe: train, compare with the untuned model, report"
EXAMPLE = "tunesmith run recipes/quickstart.yml --set max_steps=20 --overwrite"

LOCK_SUFFIX = ".lock.yml"
DRIFT_KINDS = ("recipe", "model", "data", "tokenizer", "packages", "hardware")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `run`; `launch` takes them too."""
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="the recipe, a YAML file")
    add_overrides(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the run that output_dir already holds")
    parser.add_argument(
        "--resume",
        metavar="CHECKPOINT",
        nargs="?",
        const="latest",
        help="go on from a checkpoint folder, or from the latest one in output_dir",
    )
    add_trust_remote_code(parser)
    parser.add_argument(
        "--locked",
        action="store_true",
        help="RECIPE is the recipe.lock.yml of a run: run it again, and refuse if anything it used has changed",
    )
    parser.add_argument(
        "--allow-drift",
        choices=DRIFT_KINDS,
        action="append",
        default=[],
        help="with --locked: tell changes of this kind, and run all the same (may be repeated)",
    )


def execute(args: argparse.Namespace) -> int:
    """Check the recipe, say its warnings and the defaults taken once, run it.

    Raises `UserError` for what the user can put right.
    """
    from core.check.taken import defaults_taken
    from core.diagnostics import render_problems

    plan, warnings = plan_of(args)
    if warnings and rank_of() == 0:
        print(render_problems(warnings, plan.recipe), file=sys.stderr, flush=True)
    if rank_of() == 0 and plan.host and (taken := defaults_taken(plan.recipe, plan.host)):
        print(taken, flush=True)

    keep_threads_calm()
    try:
        # only now: everything before needs no torch, so that a mistake shows at once
        from core.processes import stop_processes
        from core.run import run

        report = run(plan)
    except RecipeError as error:
        error.recipe = error.recipe or plan.recipe
        raise
    except KeyboardInterrupt as interrupt:
        raise interrupt if str(interrupt) else KeyboardInterrupt(_kept(plan.output_dir)) from None
    stop_processes()
    return report.exit_code


def _kept(folder: Path) -> str:
    """What there is to go on with after an interrupt that nobody has explained yet."""
    if (folder / "training.json").is_file():
        return f"the tuned model is in {folder}"
    if any(folder.glob("checkpoint-*")):
        return f"the checkpoints in {folder} stay; go on from the last with --resume"
    return "no step had been saved, and nothing is left to go on with"


def plan_of(args: argparse.Namespace) -> tuple[Plan, list[Problem]]:
    """The plan for the command line, and the recipe's warnings. Raises `RecipeError` with every problem."""
    from core.host import load_host
    from core.recipe import load_recipe

    if args.locked:
        from core.lock import load_lock, locked_recipe, software_drift

        lock = load_lock(args.recipe, args.allow_drift)
        recipe = locked_recipe(lock, args.overrides)
        try:
            return _plan(recipe, load_host(), args, lock)
        except RecipeError as error:
            # versions that differ may be why the recipe is refused
            drifted = [problem for problem in software_drift(lock) if problem.severity == "error"]
            raise RecipeError([*error.problems, *drifted], error.recipe) from error
    if args.allow_drift:
        raise UserError("--allow-drift has no effect without --locked", help="add --locked, or leave it out")
    if args.recipe.name.endswith(LOCK_SUFFIX):
        raise UserError(f"{str(args.recipe)!r} is the lock of a run", help="add --locked to run it again")
    return _plan(load_recipe(args.recipe, args.overrides), load_host(), args, None)


def _plan(recipe: Recipe, host: Host, args: argparse.Namespace, lock: Lock | None) -> tuple[Plan, list[Problem]]:
    from core.check import check_recipe
    from core.claim import refuse_live_run
    from core.output import refuse_existing_run
    from core.plan import make_plan, output_dir_of

    try:
        problems = check_recipe(recipe, host)
        if any(problem.severity == "error" for problem in problems):
            raise RecipeError(problems)
        refuse_live_run(output_dir_of(recipe))  # says more than that there is a run, or no checkpoint yet
        plan = make_plan(
            recipe, host, overwrite=args.overwrite, resume=args.resume, trust_remote_code=args.trust_remote_code
        )
        refuse_existing_run(plan)
    except RecipeError as error:
        error.recipe = error.recipe or recipe
        raise
    return replace(plan, lock=lock), problems
