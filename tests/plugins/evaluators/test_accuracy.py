from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plugins.evaluators.accuracy import score
from tests.core.evaluation.making import make_item


def right(prediction: str, reference: str, **options: Any) -> float:
    return score(prediction, make_item(reference), options)["accuracy"]


@pytest.mark.parametrize(
    ("prediction", "reference", "options", "expected"),
    [
        (" yes\n", "yes", {}, 1.0),
        ("Yes", "yes", {}, 0.0),
        ("Yes ", "yes", {"normalise": "casefold"}, 1.0),
        (" yes", "yes", {"normalise": "none"}, 0.0),
        ("", "yes", {}, 0.0),
        ("yes, it is", "yes", {}, 0.0),
        ('{"b": 1,"a": "x"}', '{"a": "x", "b": 1}', {"json": True}, 1.0),
        ('{"a": true}', '{"a": 1}', {"json": True}, 0.0),
        ('{"a": 1', '{"a": 1}', {"json": True}, 0.0),
        ("[" * 100_000, "[1]", {"json": True}, 0.0),
        ("1,234.5", "1234.4", {"numeric_tolerance": 0.2}, 1.0),
        ("1234.5", "1234.4", {"numeric_tolerance": 0.05}, 0.0),
        ("nan", "1", {"numeric_tolerance": 5}, 0.0),
        ("two", "two", {"numeric_tolerance": 0.1}, 1.0),
    ],
)
def test_exact_match(prediction: str, reference: str, options: dict[str, Any], expected: float) -> None:
    assert right(prediction, reference, **options) == expected


def test_any_reference_will_do() -> None:
    item = replace(make_item(), references=("yes", "indeed"))
    assert score("indeed", item, {})["accuracy"] == 1.0
    assert score("no", item, {})["accuracy"] == 0.0
