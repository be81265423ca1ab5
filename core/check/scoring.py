"""What is wrong with how a recipe wants answers scored, beyond single keys: prices, early stops, the harness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from core.check.columns import COMPARE, KINDS, PACKINGS, columns_of
from core.check.components import OWN_GENERATOR
from core.check.names import did_you_mean
from core.errors import Problem
from core.recipe import Recipe
from core.types import ColumnPlan

PRICES = ("input_per_million", "output_per_million", "per_hour")


def scoring_problems(recipe: Recipe) -> Iterator[Problem]:
    """Problems in `evaluation`; every key is valid by itself already."""
    settings: Mapping[str, Any] = recipe["evaluation"] or {}
    price = settings.get("price")
    if price:
        yield from _price_problems(price)
        yield from _unpriced_columns(price.get("columns") or {}, _columns(settings))
        if settings.get("stop_settled"):
            yield Problem(
                "price and stop_settled do not go together: prices count whole answers, stop_settled cuts them short",
                key=("evaluation", "stop_settled"),
                help="remove one of them",
            )
    if settings.get("generator") not in (None, OWN_GENERATOR):
        yield from _engine_problems(recipe, settings)
    if settings.get("lm_eval") and find_spec("lm_eval") is None:
        yield Problem(
            "lm_eval needs the package lm-eval, which is not installed",
            key=("evaluation", "lm_eval"),
            severity="warning",
            help="pip install 'tunesmith[lm-eval]'",
            blocks_run=True,
        )


def _engine_problems(recipe: Recipe, settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Columns whose weights lie nowhere on disk as another engine would have to read them; told before the training."""
    name = settings["generator"]
    packed = next((key for key in PACKINGS if recipe[key]), None)
    if packed:
        yield Problem(
            f"the generator {name!r} reads weights as they are on disk, and {packed} packs them",
            key=("evaluation", "generator"),
            at="value",
            help=f"remove {packed}, or leave evaluation.generator out",
        )
    for index, column in enumerate(_columns(settings)):
        if column.kind == "merged" or any(column.options.get(key) for key in PACKINGS):
            yield Problem(
                f"the column {column.name!r} is made in memory, where the generator {name!r} cannot read it",
                key=(*COMPARE, index),
                at="value",
                help="leave the column out, or evaluation.generator",
            )
    if settings.get("stop_settled"):
        yield Problem(
            f"'stop_settled' has no effect: the generator {name!r} writes whole answers",
            key=("evaluation", "stop_settled"),
            severity="warning",
            help="remove it",
        )


def _columns(settings: Mapping[str, Any]) -> tuple[ColumnPlan, ...]:
    """The columns that are compared; none where an entry is no column, which is told elsewhere."""
    entries: Sequence[Any] = settings.get("compare") or []
    whole = all(isinstance(entry, str) or any(kind in entry for kind in KINDS) for entry in entries)
    return columns_of(entries) if whole else ()


def _unpriced_columns(prices: Mapping[str, Any], compared: Sequence[ColumnPlan]) -> Iterator[Problem]:
    """Prices of columns that are not compared."""
    columns = [column.name for column in compared]
    if not columns:
        return
    for name in prices:
        if name not in columns:
            help = did_you_mean(name, columns) or f"the columns of evaluation.compare are: {', '.join(columns)}"
            yield Problem(f"no column {name!r} is compared", key=("evaluation", "price", "columns", name), help=help)


def _price_problems(price: Mapping[str, Any]) -> Iterator[Problem]:
    columns = price.get("columns") or {}
    stated = [key for key in PRICES if price.get(key) is not None]
    if not stated and not columns:
        help = "set input_per_million and output_per_million, or per_hour"
        yield Problem("the price names no figure", key=("evaluation", "price"), help=help)
    for key, place in [
        (price, ("evaluation", "price")),
        *((columns[c], ("evaluation", "price", "columns", c)) for c in columns),
    ]:
        if key.get("per_hour") is not None and any(key.get(name) is not None for name in PRICES[:2]):
            message = "a price per hour stands beside a price per token, and both would be charged"
            yield Problem(message, key=(*place, "per_hour"), help="keep one of the two")
