"""`tunesmith plan`: what a recipe would take, before anything is loaded."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from core.commands.arguments import add_overrides, add_trust_remote_code
from core.commands.files import write_file
from core.errors import RecipeError, UserError

HELP = "estimate parameters, memory, time and cost of a recipe, and whether it fits, without loading the model"
EXAMPLE = "tunesmith plan recipes/quickstart.yml --gpu-memory 24"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, and the hardware to plan for."""
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="the recipe to plan")
    add_overrides(parser)
    parser.add_argument(
        "--gpu-memory", metavar="GIB", type=float, help="plan for a GPU of this size (default: this machine)"
    )
    parser.add_argument("--gpus", metavar="N", type=int, default=1, help="how many of them (default: 1)")
    parser.add_argument(
        "--strategy",
        choices=("ddp", "fsdp", "zero3"),
        help="how several share the model (default: as the recipe says)",
    )
    parser.add_argument(
        "--tflops", metavar="N", type=float, help="what training reaches on one device, in 1e12 operations a second"
    )
    parser.add_argument("--price", metavar="USD", type=float, help="price of one device for an hour")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures to this file, too")
    add_trust_remote_code(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the plan; 0 also where the recipe does not fit: it is the answer asked for.

    Raises `UserError` for figures that make no sense, `RecipeError` for a recipe with mistakes.
    """
    from core.host import load_host
    from core.plan import make_plan
    from core.recipe import load_recipe

    for option, value in (("--gpu-memory", args.gpu_memory), ("--tflops", args.tflops), ("--gpus", args.gpus)):
        if value is not None and value <= 0:
            raise UserError(f"{option} {value:g} is not a positive number", help=f"give {option} a positive number")
    recipe = load_recipe(args.recipe, args.overrides)
    try:
        plan = make_plan(recipe, load_host(), overwrite=True, trust_remote_code=args.trust_remote_code)
        from core.planner import lay_out

        layout = lay_out(
            plan,
            gpu_memory=args.gpu_memory,
            ranks=args.gpus,
            strategy=args.strategy,
            teraflops=args.tflops,
            price=args.price,
        )
    except RecipeError as error:
        error.recipe = error.recipe or recipe
        raise
    print("\n".join(layout.lines()))
    if args.json:
        write_file(args.json, json.dumps(layout.as_json(), indent=1) + "\n")
    return 0
