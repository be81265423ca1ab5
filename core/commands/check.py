"""`tunesmith check`: every problem of a recipe, before anything is loaded."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from core.commands.arguments import add_overrides

HELP = "find every mistake in a recipe, without loading a model"
EXAMPLE = "tunesmith check recipes/quickstart.yml --set learning_rate=1e-4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the recipe and its overrides to `parser`."""
    parser.add_argument("recipe", type=Path, help="the recipe to check")
    add_overrides(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the problems to stderr and return 2 if there is an error, else say that the recipe is ok and return 0."""
    from core.check import check_recipe
    from core.diagnostics import counts, render_problems
    from core.host import load_host
    from core.recipe import load_recipe

    recipe = load_recipe(args.recipe, args.overrides)
    problems = check_recipe(recipe, load_host())
    if problems:
        print(render_problems(problems, recipe), file=sys.stderr)
    if any(problem.severity == "error" for problem in problems):
        return 2
    print(f"{args.recipe}: ok ({len(recipe.values)} keys, {counts(problems) if problems else '0 warnings'})")
    return 0
