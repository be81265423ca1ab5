"""One file's values over another's: maps merge, lists and scalars replace, null unsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.errors import Position, Problem
from core.types import KeyPath

# what every file asks for holds, whatever a file that extends it asks for besides
ADDED_UP = ("requires",)


@dataclass(frozen=True)
class Layer:
    """Values (null entries included) and their places, with problems that do not prevent reading on."""

    values: dict[str, Any]
    positions: dict[KeyPath, tuple[Position, Position]]
    problems: tuple[Problem, ...] = ()


def merge(base: Layer, over: Layer) -> Layer:
    """`over` laid over `base`; each value keeps the place where it was written."""
    over = _added_up(base, over)
    replaced: set[KeyPath] = set()
    values = _merge(base.values, over.values, (), replaced)
    kept = {
        path: places
        for path, places in base.positions.items()
        if not any(path[:length] in replaced for length in range(1, len(path) + 1))
    }
    problems = (*base.problems, *(problem for problem in over.problems if problem not in base.problems))
    return Layer(values, {**kept, **over.positions}, problems)


def without(layer: Layer, key: str) -> Layer:
    """The layer without the top-level `key`."""
    values = {name: value for name, value in layer.values.items() if name != key}
    positions = {path: places for path, places in layer.positions.items() if path[:1] != (key,)}
    return Layer(values, positions, layer.problems)


def _merge(base: dict[str, Any], over: dict[str, Any], path: KeyPath, replaced: set[KeyPath]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        here = (*path, key)
        below = base.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _merge(below, value, here, replaced)
        else:
            merged[key] = value
            replaced.add(here)
    return merged


def _added_up(base: Layer, over: Layer) -> Layer:
    """`over` with the entries of `base` in front of its own, for the lists that add up."""
    for key in ADDED_UP:
        first, second = base.values.get(key), over.values.get(key)
        if isinstance(first, list) and isinstance(second, list):
            moved = {
                (key, path[1] + len(first), *path[2:]) if len(path) > 1 and isinstance(path[1], int) else path: places
                for path, places in over.positions.items()
                if path[:1] == (key,)
            }
            added = {path: places for path, places in base.positions.items() if path[:1] == (key,) and len(path) > 1}
            rest = without(over, key)
            over = Layer({**rest.values, key: [*first, *second]}, {**rest.positions, **added, **moved}, over.problems)
    return over
