"""`tunesmith plan`: what a recipe would take, before anything is loaded."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.commands.arguments import add_overrides, add_trust_remote_code
from core.commands.files import check_target, write_file
from core.errors import RecipeError, UserError

HELP = "estimate parameters, memory, time and cost of a recipe, and whether it fits, without loading the model"
EXAMPLE = "tunesmith plan recipes/quickstart.yml --gpu-memory 24"


@dataclass(frozen=True)
class Figure:
    """A number that an option takes. unit: what it counts, in words; example: one to write instead of a wrong one.

    most: the largest that makes sense. free: whether 0 does. whole: whether parts of it do not.
    """

    option: str
    unit: str
    example: str
    most: float
    free: bool = False
    whole: bool = False

    def read(self, text: str | None) -> float | None:
        """The number that `text` is; None for no text. Raises `UserError` for one that makes no sense."""
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise self._refused(text, "is not a number")
        if value < 0 or (value == 0 and not self.free):
            raise self._refused(text, "is not positive")
        if value > self.most:
            raise self._refused(text, f"is more than {self.most:,.0f}")
        if self.whole and value != int(value):
            raise self._refused(text, "is not a whole number")
        return value

    def _refused(self, text: str, reason: str) -> UserError:
        help = f"{self.option} is {self.unit}, without a unit: {self.option} {self.example}"
        return UserError(f"{self.option} {text!r} {reason}", help=help)


GPU_MEMORY = Figure("--gpu-memory", "the GiB of one GPU", "24", most=4096)
GPUS = Figure("--gpus", "the number of GPUs", "8", most=4096, whole=True)
TFLOPS = Figure("--tflops", "what one device reaches, in 1e12 operations a second", "150", most=100_000)
PRICE = Figure("--price", "the US$ of one device for an hour", "2.5", most=100_000, free=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, and the hardware to plan for."""
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="the recipe to plan")
    add_overrides(parser)
    parser.add_argument("--gpu-memory", metavar="GIB", help="plan for a GPU of this size (default: this machine)")
    parser.add_argument("--gpus", metavar="N", default="1", help="how many of them (default: 1)")
    parser.add_argument(
        "--strategy",
        choices=("ddp", "fsdp", "zero3"),
        help="how several share the model (default: as the recipe says)",
    )
    parser.add_argument(
        "--tflops", metavar="N", help="what training reaches on one device, in 1e12 operations a second"
    )
    parser.add_argument("--price", metavar="USD", help="price of one device for an hour")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures to this file, too")
    add_trust_remote_code(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the plan; 0 also where the recipe does not fit: it is the answer asked for.

    Raises `UserError` for figures that make no sense, `RecipeError` for a recipe with mistakes.
    """
    from core.host import load_host
    from core.plan import make_plan
    from core.recipe import load_recipe

    gpu_memory, gpus, teraflops, price = _read_all(
        [(GPU_MEMORY, args.gpu_memory), (GPUS, args.gpus), (TFLOPS, args.tflops), (PRICE, args.price)]
    )
    if args.json is not None:
        check_target("--json", args.json, spare=[Path(args.recipe)])
    recipe = load_recipe(args.recipe, args.overrides)
    try:
        plan = make_plan(recipe, load_host(), overwrite=True, trust_remote_code=args.trust_remote_code)
        from core.planner import lay_out

        layout = lay_out(
            plan,
            gpu_memory=gpu_memory,
            ranks=int(gpus or 1),
            strategy=args.strategy,
            teraflops=teraflops,
            price=price,
        )
    except RecipeError as error:
        error.recipe = error.recipe or recipe
        raise
    print("\n".join(layout.lines()))
    if args.json:
        write_file(args.json, json.dumps(layout.as_json(), indent=1) + "\n")
    return 0


def _read_all(options: Sequence[tuple[Figure, str | None]]) -> list[float | None]:
    """The numbers of all options. Raises `UserError` that tells of every one that makes no sense."""
    values: list[float | None] = []
    wrong: list[UserError] = []
    for figure, text in options:
        try:
            values.append(figure.read(text))
        except UserError as error:
            wrong.append(error)
    if wrong:
        raise UserError(
            "; ".join(error.message for error in wrong), help="\n  ".join(str(error.help) for error in wrong)
        )
    return values
