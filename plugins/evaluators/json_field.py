"""`json_field`: one field of a JSON answer has the reference's value, whatever stands round it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core import Evaluator, Item, Problem, Recipe, hookimpl
from core.types import Options
from plugins.evaluators.json_text import NotJson, parse_json

OPTIONS: dict[str, Any] = {
    "field": {
        "type": "string",
        "minLength": 1,
        "description": "The field to compare; dots lead into nested objects, as in patient.age.",
    },
    "casefold": {"type": "boolean", "default": False, "description": "Upper and lower case count as equal."},
}


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """1 if the field's value equals a reference's; 0 if it differs, is missing, or the answer is not JSON.

    Raises `ValueError` for a reference that has no such field.
    """
    path = options["field"].split(".")
    expected = [_value(reference, path) for reference in item.references]
    if any(value is None for value in expected):
        raise ValueError(f"the reference {item.references[0]!r} has no field {options['field']!r}")
    found = _value(prediction, path)
    right = found is not None and any(_same(found[0], value[0], options) for value in expected if value is not None)
    return {"json_field": float(right), "present": float(found is not None)}


def _value(text: str, path: list[str]) -> tuple[Any] | None:
    """The value at `path` of the JSON in `text`, in a tuple of its own; None where there is none."""
    try:
        value = parse_json(text)
    except NotJson:
        return None
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return (value,)


def _same(found: Any, expected: Any, options: Options) -> bool:
    if isinstance(found, str) and isinstance(expected, str):
        found, expected = found.strip(), expected.strip()
        if options.get("casefold"):
            found, expected = found.casefold(), expected.casefold()
    if isinstance(found, bool) != isinstance(expected, bool):
        return False  # Python holds True equal to 1
    return bool(found == expected)


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """Every `json_field` names its field."""
    evaluation = recipe["evaluation"]
    metrics = evaluation.get("metrics") if isinstance(evaluation, Mapping) else None
    return [
        Problem(
            "json_field is not told which field to compare",
            key=("evaluation", "metrics", index, "type"),
            at="value",
            help="add field: NAME",
        )
        for index, metric in enumerate(metrics or ())
        if isinstance(metric, Mapping) and metric.get("type") == "json_field" and not metric.get("field")
    ]


@hookimpl
def evaluators() -> list[Evaluator]:
    description = "Share of JSON answers whose field has the right value."
    return [Evaluator("json_field", score, options_schema=OPTIONS, description=description)]
