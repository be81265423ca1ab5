"""`tunesmith show`: the resolved recipe, each value with where it came from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.recipe import Recipe

from core.commands.arguments import add_overrides
from core.secrets import masked

HELP = "print a recipe with its bases and defaults in it, and where each value came from"
EXAMPLE = "tunesmith show recipes/quickstart.yml --set learning_rate=1e-4"

WIDEST = 72  # a longer line does not move the comments of all others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the recipe and its overrides to `parser`."""
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="the recipe: a file, or package:recipe")
    add_overrides(parser)


def execute(args: argparse.Namespace) -> int:
    """Print YAML that is itself a recipe. Raises `RecipeError` for a recipe with mistakes."""
    from core.check import valid_recipe
    from core.host import load_host
    from core.recipe import load_recipe
    from core.sharing.resolved import resolved

    host = load_host()
    recipe = valid_recipe(load_recipe(args.recipe, args.overrides), host)
    lines = [("# " + _made_of(recipe), ""), *_map_lines(resolved(recipe, host), "")]
    width = max((len(line) for line, origin in lines if origin and len(line) <= WIDEST), default=0)
    for line, origin in lines:
        print(f"{line:<{width}}  # {origin}" if origin else line)
    return 0


def _made_of(recipe: Recipe) -> str:
    from core.diagnostics import plain

    files = [plain(masked(file)) for file in recipe.sources]
    return " over ".join([files[0], ", ".join(files[1:])]) if files[1:] else files[0]


def _map_lines(tree: Mapping[str, Any], indent: str) -> Iterator[tuple[str, str]]:
    """(line, origin) of every entry; the origin of a map or list as a whole is empty."""
    for key, entry in tree.items():
        yield from _entry_lines(f"{indent}{one_line(key)}:", entry, indent)


def _entry_lines(start: str, entry: Any, indent: str) -> Iterator[tuple[str, str]]:
    if isinstance(entry, Mapping):
        yield start, ""
        yield from _map_lines(entry, indent + "  ")
    elif isinstance(entry, list):
        yield start, ""
        for inner in entry:
            yield from _item_lines(inner, indent + "  ")
    else:
        yield from _leaf_lines(start, entry.shown, entry.origin, indent)


def _item_lines(entry: Any, indent: str) -> Iterator[tuple[str, str]]:
    """The lines of one entry of a list, the first with its dash."""
    if isinstance(entry, Mapping):
        (first, origin), *rest = _map_lines(entry, indent + "  ")
        yield f"{indent}- {first[len(indent) + 2 :]}", origin
        yield from rest
    elif isinstance(entry, list):
        yield f"{indent}-", ""
        for inner in entry:
            yield from _item_lines(inner, indent + "  ")
    else:
        yield from _leaf_lines(f"{indent}-", entry.shown, entry.origin, indent)


def _leaf_lines(start: str, value: Any, origin: str, indent: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and _fits_block(value):
        yield f"{start} {'|' if value.endswith(chr(10)) else '|-'}", origin
        for line in value.removesuffix("\n").split("\n"):
            yield f"{indent}  {line}" if line else "", ""
    else:
        yield f"{start} {one_line(value)}", origin


def _fits_block(text: str) -> bool:
    """Whether a text of several lines reads back the same from a literal block."""
    lines = text.split("\n")
    plain = all(char == "\n" or char.isprintable() for char in text)
    return len(lines) > 1 and plain and bool(lines[0]) and not lines[0][0].isspace() and not text.endswith("\n\n")


def one_line(value: Any) -> str:
    """One value on one line, as this and other readers of YAML understand it."""
    import yaml

    from core.yaml_nodes import resolve_scalar

    # what reads as something else here, such as 2e-5, is quoted even where others would not need it
    quoted = isinstance(value, str) and ("\n" in value or not isinstance(resolve_scalar(value), str))
    # what would turn the writing around, or hide, is escaped
    readable = not isinstance(value, str) or all(char.isprintable() or char in "\n\t" for char in value)
    text = yaml.safe_dump(
        value,
        default_style='"' if quoted or not readable else None,
        default_flow_style=True,
        width=float("inf"),
        allow_unicode=readable,
    )
    return str(text.removesuffix("\n").removesuffix("\n...").rstrip("\n"))
