"""`json_fields`: precision, recall and F1 over the fields of JSON answers, for extraction.

A field that holds a list counts each of its entries, in any order; every other field counts once. An entry of the
answer that the reference has too is right; the answer's others lower precision, the reference's others lower recall.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from core import Evaluator, Item, Problem, Recipe, RowError, hookimpl
from core.types import Options
from plugins.evaluators.entries import entries
from plugins.evaluators.f1 import f1_of, mean_of
from plugins.evaluators.json_field import settled, value_at
from plugins.evaluators.json_text import OPTION, NotJson, parse_answer, parse_json

NAME = "json_fields"
OPTIONS: dict[str, Any] = {
    "fields": {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "minItems": 1,
        "description": "The fields to compare; dots lead into nested objects. All that references have, if left out.",
    },
    "average": {
        "type": "string",
        "enum": ["micro", "macro"],
        "default": "micro",
        "description": "The compared figure: the F1 over all entries together (micro), or the mean of the fields' F1.",
    },
    "casefold": {"type": "boolean", "default": False, "description": "Upper and lower case count as equal."},
    **OPTION,
}


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """F1 of this answer, and per field how many entries are right (tp), too many (fp) and missing (fn)."""
    fields = _fields([item], options)
    expected = _entries(parse_json(item.references[0]), fields, options)
    try:
        found, valid = _entries(parse_answer(prediction, options), fields, options), 1.0
    except NotJson:
        found, valid = {field: Counter() for field in fields}, 0.0
    counts: dict[str, float] = {}
    for field in fields:
        right = (found[field] & expected[field]).total()
        counts[f"tp:{field}"] = float(right)
        counts[f"fp:{field}"] = float(found[field].total() - right)
        counts[f"fn:{field}"] = float(expected[field].total() - right)
    return {NAME: f1_of(*_sums([counts], fields))[0], "valid": valid, **counts}


def summarise(scores: Sequence[dict[str, float]], options: Options) -> dict[str, float]:
    """F1 (micro and macro), precision and recall over all answers, and the share of answers that are JSON."""
    fields = list(dict.fromkeys(key[3:] for one in scores for key in one if key.startswith("tp:")))
    f1, precision, recall = f1_of(*_sums(scores, fields))
    each = [f1_of(*_sums(scores, [field]))[0] for field in fields if any(_sums(scores, [field]))]
    macro = math.fsum(each) / len(each) if each else 1.0
    return {
        NAME: macro if options.get("average") == "macro" else f1,
        "micro_f1": f1,
        "macro_f1": macro,
        "precision": precision,
        "recall": recall,
        "valid": mean_of(scores, "valid"),
    }


def details(predictions: Sequence[str], items: Sequence[Item], options: Options) -> dict[str, Any]:
    """Precision, recall and F1 of each field, and how many entries the references hold."""
    scores = [score(prediction, item, options) for prediction, item in zip(predictions, items, strict=True)]
    per_field = {}
    for field in dict.fromkeys(key[3:] for one in scores for key in one if key.startswith("tp:")):
        right, found, wanted = _sums(scores, [field])
        f1, precision, recall = f1_of(right, found, wanted)
        per_field[field] = {"precision": precision, "recall": recall, "f1": f1, "support": int(wanted)}
    return {"per_field": per_field, "reasons": {"not_json": sum(not one["valid"] for one in scores)}}


def check(item: Item, options: Options) -> None:
    """Raise `RowError` if the reference is no JSON object, or has none of the fields."""
    try:
        value = parse_json(item.references[0])
    except NotJson as error:
        raise RowError(f"the reference {item.references[0][:80]!r} is not JSON: {error}") from error
    if not isinstance(value, Mapping):
        raise RowError(f"the reference {item.references[0][:80]!r} is no JSON object")
    fields = options.get("fields")
    if fields and not any(value_at(value, field.split(".")) for field in fields):
        raise RowError(f"the reference {item.references[0][:80]!r} has none of the fields {', '.join(fields)}")


def complete(items: Sequence[Item], options: Options) -> Options:
    """The options with the fields that occur in the references, where the recipe names none."""
    return {**options, "fields": _fields(items, options)}


def _fields(items: Sequence[Item], options: Options) -> list[str]:
    if options.get("fields"):
        return list(options["fields"])
    return list(dict.fromkeys(str(name) for item in items for name in parse_json(item.references[0])))


def _entries(value: Any, fields: Sequence[str], options: Options) -> dict[str, Counter[str]]:
    """Per field the entries it holds, as canonical text; none where the field is missing, null or an empty list."""
    found: dict[str, Counter[str]] = {}
    for field in fields:
        held = (
            (value.get(field),) if isinstance(value, Mapping) and field in value else value_at(value, field.split("."))
        )
        listed = [] if held is None or held[0] is None else held[0] if isinstance(held[0], list) else [held[0]]
        found[field] = Counter(_canonical(entry, options) for entry in listed)
    return found


def _canonical(value: Any, options: Options) -> str:
    if isinstance(value, str):
        value = value.strip().casefold() if options.get("casefold") else value.strip()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _sums(scores: Sequence[Mapping[str, float]], fields: Sequence[str]) -> tuple[float, float, float]:
    """How many entries of the fields are right, how many the answers have, and how many the references."""
    tp, fp, fn = (
        math.fsum(one.get(f"{kind}:{field}", 0.0) for one in scores for field in fields) for kind in ("tp", "fp", "fn")
    )
    return tp, tp + fp, tp + fn


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """No field is named twice."""
    problems = []
    for key, metric in entries(recipe, NAME):
        fields = list(metric.get("fields") or ())
        for index, field in enumerate(fields):
            if field in fields[:index]:
                message = f"the field {field!r} is named twice"
                problems.append(Problem(message, key=(*key, "fields", index), at="value", help="remove one of them"))
    return problems


@hookimpl
def evaluators() -> list[Evaluator]:
    return [
        Evaluator(
            NAME,
            score,
            summarise=summarise,
            options_schema=OPTIONS,
            description="Precision, recall and F1 over the fields of JSON answers.",
            check=check,
            complete=complete,
            details=details,
            settled=settled,
        )
    ]
