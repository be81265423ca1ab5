"""`--set key=value` on the command line: where it goes, what it says, and a place to point at when it is wrong."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import Position, Problem, RecipeError
from core.types import KeyPath
from core.yaml_nodes import read_tree

COMMAND_LINE = "--set"  # the "file" of an override's position; the line is its index, from 1

Positions = dict[KeyPath, tuple[Position, Position]]


def apply_overrides(values: Mapping[str, Any], positions: Positions, overrides: Sequence[str]) -> tuple[Any, Positions]:
    """Values and positions with every override applied, in order. Raises `RecipeError` with all that cannot be."""
    if not overrides:
        return values, positions
    result, places = copy.deepcopy(dict(values)), dict(positions)
    problems: list[Problem] = []
    for number, text in enumerate(overrides, start=1):
        try:
            _apply(result, places, text, number)
        except RecipeError as error:
            problems.extend(error.problems)
    if problems:
        raise RecipeError(problems)
    return result, places


def _apply(values: dict[str, Any], positions: Positions, text: str, number: int) -> None:
    name, equals, given = text.partition("=")
    key_place = Position(COMMAND_LINE, number, 1)
    value_place = Position(COMMAND_LINE, number, len(name) + 2)
    if not equals or not name.strip():
        raise RecipeError(
            [Problem(f"{text!r} is not 'key=value'", position=key_place, help="write --set learning_rate=1e-4")]
        )
    if not given.strip():
        name = name.strip()
        help = f"write {name}=null to unset it, {name}='' for an empty text"
        raise RecipeError([Problem(f"{text.strip()!r} has no value", position=key_place, help=help)])
    try:
        text.encode()
    except UnicodeEncodeError:
        help = "write it in UTF-8; a terminal or script in another encoding sends other bytes"
        raise RecipeError([Problem(f"{text!r} is not UTF-8", position=key_place, help=help)]) from None
    path: KeyPath = tuple(int(part) if part.isascii() and part.isdigit() else part for part in name.strip().split("."))
    try:
        tree = read_tree(given, COMMAND_LINE)
    except RecipeError as error:
        message = error.problems[0].message
        raise RecipeError([Problem(message, position=value_place, help=error.problems[0].help)]) from None
    path = _write(values, path, tree.value, key_place)
    if tree.value is None and path in positions:
        # what the file says there is unset, and so are its problems
        for old in [place for place in positions if place[: len(path)] == path]:
            del positions[old]
        return
    for old in [place for place in positions if place[: len(path)] == path]:
        del positions[old]
    for length in range(1, len(path)):
        positions.setdefault(path[:length], (key_place, value_place))
    positions[path] = (key_place, value_place)
    for inner in tree.positions:
        positions[(*path, *inner)] = (key_place, value_place)


def _write(values: dict[str, Any], path: KeyPath, value: Any, place: Position) -> KeyPath:
    """Put `value` at `path`, making maps on the way; the path as it was read (a digit may be the key of a map)."""
    here: Any = values
    taken: list[str | int] = []
    for step, part in enumerate(path):
        last = step == len(path) - 1
        if isinstance(here, list):
            if not isinstance(part, int) or part > len(here):
                shown = ".".join(map(str, taken))
                valid = f"{len(here)} for a new entry"
                valid = f"0 to {len(here) - 1}, or {valid}" if here else valid
                raise RecipeError(
                    [
                        Problem(
                            f"{shown!r} is a list of {len(here)}, {part!r} is no place in it",
                            position=place,
                            help=f"use {valid}",
                        )
                    ]
                )
            if part == len(here):
                here.append({})
        elif isinstance(here, dict):
            part = str(part)
            if not last and here.get(part) is None:
                here[part] = [] if isinstance(path[step + 1], int) else {}
        else:
            shown = ".".join(map(str, taken))
            raise RecipeError(
                [
                    Problem(
                        f"{shown!r} is {here!r}, it has no {part!r} in it", position=place, help=f"set {shown!r} itself"
                    )
                ]
            )
        taken.append(part)
        if last:
            here[part] = value
        else:
            here = here[part]
    return tuple(taken)
