"""`accuracy`: the answer equals a reference, under a stated normalisation."""

from __future__ import annotations

import json
import math
import re
import string
from typing import Any

from core import Evaluator, Item, Problem, Recipe, RowError, hookimpl
from core.types import Options
from plugins.evaluators.entries import entries, regex_problems
from plugins.evaluators.json_text import NotJson, parse_json
from plugins.evaluators.references import OPTION, acceptable

PUNCTUATION = str.maketrans("", "", string.punctuation)
OPTIONS: dict[str, Any] = {
    "normalise": {
        "type": "string",
        "enum": ["none", "strip", "casefold", "words"],
        "default": "strip",
        "description": "What is made equal before comparing: nothing; white space at both ends; that and upper and "
        "lower case; or all of that, punctuation, and the white space between words.",
    },
    "json": {
        "type": "boolean",
        "default": False,
        "description": "Compare the JSON values instead of the letters: key order and white space do not count.",
    },
    "numeric_tolerance": {
        "type": "number",
        "minimum": 0,
        "description": "Compare as numbers: right if the answer is at most this far from the reference.",
    },
    "pick": {
        "type": "string",
        "x-env": False,
        "minLength": 1,
        "description": "A regular expression (Python's) with a group: the group of its last match is compared, in the "
        "answer and, where it matches there, in the reference. An answer without a match is wrong.",
    },
    **OPTION,
}


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """1 if the prediction equals one of the references, else 0; with `pick`, `picked` tells whether it matched."""
    if options.get("pick") is None:
        return {"accuracy": float(any(_equal(prediction, one, options) for one in acceptable(item, options)))}
    found = _picked(prediction, options["pick"])
    wanted = [_picked(one, options["pick"]) or one for one in acceptable(item, options)]
    right = found is not None and any(_equal(found, one, options) for one in wanted)
    return {"accuracy": float(right), "picked": float(found is not None)}


def check(item: Item, options: Options) -> None:
    """Every reference is a number where numbers are compared, and the field with further references is there."""
    if options.get("numeric_tolerance") is None:
        acceptable(item, options)
        return
    for reference in acceptable(item, options):
        text = (_picked(reference, options["pick"]) or reference) if options.get("pick") else reference
        if _number(text) is None:
            raise RowError(f"the reference {text[:80]!r} is not a number", help="leave numeric_tolerance out")


def settled(text: str, item: Item, options: Options) -> bool:
    """Whether the answer is wrong however it goes on: no reference starts like it."""
    how = options.get("normalise", "strip")
    if options.get("json") or options.get("pick") or options.get("numeric_tolerance") is not None or how == "words":
        return False
    begun = _normalised(text, how) if how == "none" else _normalised(text, how).rstrip()
    return not any(_normalised(one, how).startswith(begun) for one in acceptable(item, options))


def _picked(text: str, pattern: str) -> str | None:
    """The first group that took part in the last match."""
    last = None
    for match in re.finditer(pattern, text):
        last = next((group for group in match.groups() if group is not None), None)
    return last


def _equal(prediction: str, reference: str, options: Options) -> bool:
    tolerance = options.get("numeric_tolerance")
    if tolerance is not None:
        first, second = _number(prediction), _number(reference)
        if first is not None and second is not None:
            # 0.1 + 0.2 is within 0 of 0.3 for whoever reads it
            return abs(first - second) <= float(tolerance) + 1e-12 * max(1.0, abs(second))
    prediction, reference = (_normalised(text, options.get("normalise", "strip")) for text in (prediction, reference))
    if options.get("json"):
        try:
            return _canonical(parse_json(prediction)) == _canonical(parse_json(reference))
        except (NotJson, RecursionError):
            pass  # what is not JSON is compared as text
    return prediction == reference


def _normalised(text: str, how: str) -> str:
    if how == "none":
        return text
    if how == "words":
        return " ".join(text.casefold().translate(PUNCTUATION).split())
    return text.strip().casefold() if how == "casefold" else text.strip()


def _canonical(value: Any) -> str:
    """JSON text of `value` with sorted keys, so that `true` and `1` stay different."""
    return json.dumps(value, sort_keys=True)


def _number(text: str) -> float | None:
    try:
        value = float(text.strip().replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """The regular expression of `pick` is one, with a group."""
    return [
        problem
        for key, metric in entries(recipe, "accuracy")
        for problem in regex_problems(metric.get("pick"), (*key, "pick"), group=True)
    ]


@hookimpl
def evaluators() -> list[Evaluator]:
    description = "Share of answers equal to a reference."
    return [Evaluator("accuracy", score, options_schema=OPTIONS, description=description, check=check, settled=settled)]
