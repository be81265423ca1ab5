"""`accuracy`: the answer equals a reference, under a stated normalisation."""

from __future__ import annotations

import json
import math
from typing import Any

from core import Evaluator, Item, hookimpl
from core.types import Options
from plugins.evaluators.json_text import NotJson, parse_json

OPTIONS: dict[str, Any] = {
    "normalise": {
        "type": "string",
        "enum": ["none", "strip", "casefold"],
        "default": "strip",
        "description": "What is made equal before comparing: nothing, white space at both ends, or that and upper and "
        "lower case.",
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
}


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """1 if the prediction equals one of the references, else 0."""
    return {"accuracy": float(any(_equal(prediction, reference, options) for reference in item.references))}


def _equal(prediction: str, reference: str, options: Options) -> bool:
    tolerance = options.get("numeric_tolerance")
    if tolerance is not None:
        first, second = _number(prediction), _number(reference)
        if first is not None and second is not None:
            return abs(first - second) <= float(tolerance)
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
def evaluators() -> list[Evaluator]:
    return [Evaluator("accuracy", score, options_schema=OPTIONS, description="Share of answers equal to a reference.")]
