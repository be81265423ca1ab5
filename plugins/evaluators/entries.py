"""What the rules of metrics need of a recipe: the entries of a type, and whether a package of an extra is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from core import Problem, Recipe
from core.types import KeyPath

Entry = tuple[KeyPath, Mapping[str, Any]]


def entries(recipe: Recipe, *names: str) -> Iterator[Entry]:
    """Where each metric of these types stands in the recipe, and what it says."""
    evaluation = recipe["evaluation"]
    metrics = evaluation.get("metrics") if isinstance(evaluation, Mapping) else None
    for index, metric in enumerate(metrics or ()):
        if isinstance(metric, Mapping) and metric.get("type") in names:
            yield ("evaluation", "metrics", index), metric


def missing_package(recipe: Recipe, module: str, *names: str) -> list[Problem]:
    """A problem per metric of these types if `module`, which the extra `metrics` brings, is not installed."""
    if find_spec(module) is not None:
        return []
    return [
        Problem(
            f"the metric {metric['type']!r} needs the package {module.replace('_', '-')}, which is not installed",
            key=(*key, "type"),
            at="value",
            severity="warning",
            help="pip install 'tunesmith[metrics]'",
            blocks_run=True,
        )
        for key, metric in entries(recipe, *names)
    ]


def regex_problems(pattern: Any, key: KeyPath, *, group: bool = False) -> list[Problem]:
    """What is wrong with a regular expression. group: it has to have a group."""
    if not isinstance(pattern, str):
        return []
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        place = f" at character {error.pos + 1}" if error.pos is not None else ""
        message = f"{pattern!r} is not a regular expression: {error.msg}{place}"
        return [Problem(message, key=key, at="value", help="write it as Python's module re reads it")]
    if group and not compiled.groups:
        help = "put parentheses round the part to compare, as in '#### (.*)'"
        return [Problem(f"{pattern!r} has no group", key=key, at="value", help=help)]
    return []
