"""`tunesmith diff`: what differs between the runs that two recipes describe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from core.secrets import holds_a_mask

if TYPE_CHECKING:
    from core.host import Host
    from core.sharing.resolved import Leaf
    from core.types import KeyPath

WIDEST = 100  # a longer value does not push the origins of the others aside
HELP = "compare two recipes by what takes effect, defaults included; ends with 0 for no difference, else 1"
EXAMPLE = "tunesmith diff recipes/llama-lora.yml recipes/llama-qlora.yml"

DIFFERENT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two recipes to `parser`."""
    parser.add_argument("first", metavar="A", type=Path, help="a recipe: a file, or package:recipe")
    parser.add_argument("second", metavar="B", type=Path, help="the recipe to compare it with")


def execute(args: argparse.Namespace) -> int:
    """Print every key that differs, with both values and where they came from. Raises `RecipeError` for mistakes."""
    from core.host import load_host

    host = load_host()
    first, second = (_leaves(path, host) for path in (args.first, args.second))
    different = [path for path in {**first, **second} if not _same(first.get(path), second.get(path))]
    for path in different:
        print(".".join(map(str, path)))
        shown = [(sign, *_told(leaf)) for sign, leaf in (("-", first.get(path)), ("+", second.get(path)))]
        alike = shown[0][1] == shown[1][1]
        texts = [
            (sign, f"{text} = {leaf.effect}" if alike and leaf and _is_path(leaf) else text, origin)
            for (sign, text, origin), leaf in zip(shown, (first.get(path), second.get(path)), strict=True)
        ]
        # never cut: two long texts may differ at their ends
        width = max((len(text) for _, text, _ in texts if len(text) <= WIDEST), default=0)
        for sign, text, origin in texts:
            print(f"  {sign} {text:<{width}}  # {origin}" if origin else f"  {sign} {text}")
    if different:
        print(f"{len(different)} {'value differs' if len(different) == 1 else 'values differ'}")
    else:
        print("no difference in effect")
    return DIFFERENT if different else 0


def _leaves(path: Path, host: Host) -> dict[KeyPath, Leaf]:
    from core.check import valid_recipe
    from core.recipe import load_recipe
    from core.sharing.resolved import in_effect

    return in_effect(valid_recipe(load_recipe(path), host), host)


def _same(first: Leaf | None, second: Leaf | None) -> bool:
    if first is None or second is None:
        return first is second
    # 1 and true are equal in Python, and different in a recipe
    return type(first.effect) is type(second.effect) and bool(first.effect == second.effect)


def _is_path(leaf: Leaf) -> bool:
    """Whether the value is the path of a file that is here, and no secret or variable: then it is shown whole."""
    shown = leaf.shown
    return isinstance(shown, str) and "${" not in shown and not holds_a_mask(shown) and leaf.effect != shown


def _told(leaf: Leaf | None) -> tuple[str, str]:
    from core.commands.show import one_line

    return (one_line(leaf.shown), leaf.origin) if leaf else ("(not set)", "")
