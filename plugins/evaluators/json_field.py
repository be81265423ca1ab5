"""`json_field`: one field of a JSON answer has the reference's value, whatever stands round it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core import Evaluator, Item, Problem, Recipe, RowError, hookimpl
from core.types import Options
from plugins.evaluators.entries import entries
from plugins.evaluators.json_text import OPTION, NotJson, is_settled, parse_answer, parse_json

OPTIONS: dict[str, Any] = {
    "field": {
        "type": "string",
        "minLength": 1,
        "description": "The field to compare; dots lead into nested objects, as in patient.age.",
    },
    "casefold": {"type": "boolean", "default": False, "description": "Upper and lower case count as equal."},
    **OPTION,
}


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """1 if the field's value equals a reference's; 0 if it differs, is missing, or the answer is not JSON.

    Raises `RowError` for a reference that has no such field.
    """
    check(item, options)
    path = options["field"].split(".")
    expected = [value_at(parse_json(reference), path) for reference in item.references]
    found = _found(prediction, path, options)
    right = found is not None and any(same(found[0], value[0], options) for value in expected if value is not None)
    return {"json_field": float(right), "present": float(found is not None)}


def check(item: Item, options: Options) -> None:
    """Raise `RowError` if a reference is not JSON, or has no such field."""
    for reference in item.references:
        try:
            value = parse_json(reference)
        except NotJson as error:
            raise RowError(f"the reference {reference[:80]!r} is not JSON: {error}") from error
        if value_at(value, options["field"].split(".")) is None:
            raise RowError(
                f"the reference {reference[:80]!r} has no field {options['field']!r}", field=options["field"]
            )


def settled(text: str, item: Item, options: Options) -> bool:
    """Whether the JSON that counts is complete."""
    return is_settled(text, options)


def _found(text: str, path: list[str], options: Options) -> tuple[Any] | None:
    try:
        return value_at(parse_answer(text, options), path)
    except NotJson:
        return None


def value_at(value: Any, path: list[str]) -> tuple[Any] | None:
    """The value at `path` in `value`, in a tuple of its own; None where there is none."""
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return (value,)


def same(found: Any, expected: Any, options: Options) -> bool:
    """Whether two values are equal: texts without white space at both ends, and true is not 1."""
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
    return [
        Problem("json_field is not told which field to compare", key=(*key, "type"), at="value", help="add field: NAME")
        for key, metric in entries(recipe, "json_field")
        if not metric.get("field")
    ]


@hookimpl
def evaluators() -> list[Evaluator]:
    description = "Share of JSON answers whose field has the right value."
    return [
        Evaluator("json_field", score, options_schema=OPTIONS, description=description, check=check, settled=settled)
    ]
