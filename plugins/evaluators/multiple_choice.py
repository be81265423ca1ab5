"""`multiple_choice`: the answer is the choice that the model finds most likely; nothing needs to be generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core import Evaluator, Item, Problem, Recipe, RowError, hookimpl
from core.types import Options
from plugins.evaluators.entries import entries
from plugins.evaluators.f1 import mean_of

NAME = "multiple_choice"
OPTIONS: dict[str, Any] = {
    "choices": {
        "type": ["array", "string"],
        "items": {"type": "string", "minLength": 1},
        "minItems": 2,
        "minLength": 1,
        "description": "The choices, the same for all items; or the field of the row that lists them.",
    },
    "by": {
        "type": "string",
        "enum": ["sum", "token", "character"],
        "default": "sum",
        "description": "What is compared: the probability of the whole choice, or its logarithm per token or per "
        "character, which does not favour short choices.",
    },
}


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """1 if the reference is the most likely choice by what is compared; the figures by the other ways; what was chosen.

    Nothing for an item whose choices were not measured.
    """
    listed = choices(item, options)
    if f"nll:{len(listed) - 1}" not in item.facts:
        return {}
    right = _right(item, listed)
    best = {way: chosen(item, listed, way) for way in ("sum", "token", "character")}
    return {
        NAME: float(best[str(options.get("by", "sum"))] == right),
        **{f"by_{way}": float(number == right) for way, number in best.items()},
        "chosen": float(best[str(options.get("by", "sum"))]),
    }


def summarise(scores: Sequence[dict[str, float]], options: Options) -> dict[str, float]:
    """The share of right choices, by each way of comparing."""
    return {key: mean_of(scores, key) for key in scores[0] if key != "chosen"}


def choices(item: Item, options: Options) -> Sequence[str]:
    """The choices of `item`. Raises `RowError` where its row lists none."""
    listed = options.get("choices") or [item.references[0], "no"]
    if isinstance(listed, str):
        if listed not in item.row:
            raise RowError(f"the row has no field {listed!r}", field=listed)
        field, listed = listed, item.row[listed]
        if isinstance(listed, dict) and isinstance(listed.get("text"), list):
            listed = listed["text"]  # as in ARC and the like: {"text": [...], "label": [...]}
        if not isinstance(listed, (list, tuple)) or len(listed) < 2:
            raise RowError(f"the field {field!r} holds {str(listed)[:80]!r}, not a list of choices", field=field)
    texts = [str(entry) for entry in listed]
    if not all(text.strip() for text in texts):
        raise RowError("one of the choices is empty")
    return texts


def check(item: Item, options: Options) -> None:
    """Raise `RowError` for an item without choices, or whose reference is none of them."""
    _right(item, choices(item, options))


def _right(item: Item, listed: Sequence[str]) -> int:
    plain = [one.strip() for one in listed]
    if item.references[0].strip() not in plain:
        shown = ", ".join(repr(one[:40]) for one in plain[:6])
        raise RowError(f"the reference {item.references[0][:80]!r} is none of the choices {shown}")
    return plain.index(item.references[0].strip())


def chosen(item: Item, listed: Sequence[str], way: str) -> int:
    """The number of the most likely choice."""

    def cost(number: int) -> float:
        nll, tokens = item.facts[f"nll:{number}"], item.facts[f"tokens:{number}"]
        return nll / {"sum": 1.0, "token": tokens, "character": float(len(listed[number]))}[way]

    return min(range(len(listed)), key=cost)


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """Every `multiple_choice` is told its choices."""
    return [
        Problem(
            f"{NAME} is not told the choices",
            key=(*key, "type"),
            at="value",
            help="add choices: [A, B, C, D], or choices: FIELD for a field of the rows that lists them",
        )
        for key, metric in entries(recipe, NAME)
        if not metric.get("choices")
    ]


@hookimpl
def evaluators() -> list[Evaluator]:
    return [
        Evaluator(
            NAME,
            score,
            summarise=summarise,
            options_schema=OPTIONS,
            needs=("choices",),
            description="Share of items whose reference is the most likely choice.",
            check=check,
            choices=choices,
        )
    ]
