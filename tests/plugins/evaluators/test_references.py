"""Several references, picked answers, and items that are found wanting before anything is generated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core import RowError
from core.errors import DataError
from core.evaluation.metrics import ready_metrics
from core.host import load_host
from core.types import MetricPlan
from plugins.evaluators.accuracy import check, score, settled
from plugins.evaluators.format_compliance import details
from tests.plugins.evaluators.rows import item


def test_a_field_adds_acceptable_answers() -> None:
    options = {"references": "aliases"}
    assert score("NYC", item("New York", aliases=["NYC", "Big Apple"]), options)["accuracy"] == 1.0
    assert score("NYC", item("New York", aliases="NYC"), options)["accuracy"] == 1.0
    assert score("LA", item("New York", aliases=["NYC"]), options)["accuracy"] == 0.0
    with pytest.raises(RowError, match="no field 'aliases'"):
        check(item("New York"), options)
    with pytest.raises(RowError, match="not a text or a list of texts"):
        check(item("New York", aliases=[{"a": 1}]), options)


@pytest.mark.parametrize(
    ("answer", "right", "picked"),
    [("so 3 + 4 = 7\n#### 7", 1.0, 1.0), ("#### 8\n#### 7", 1.0, 1.0), ("7", 0.0, 0.0), ("#### 8", 0.0, 1.0)],
)
def test_the_last_match_is_compared(answer: str, right: float, picked: float) -> None:
    options = {"pick": r"#### (.+)", "numeric_tolerance": 0}
    assert score(answer, item("3 and 4\n#### 7"), options) == {"accuracy": right, "picked": picked}
    assert score(answer, item("7"), options)["accuracy"] == right


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert score("The  Cat, sat!", item("the cat sat"), {"normalise": "words"})["accuracy"] == 1.0
    assert score("The  Cat, sat!", item("the cat sat"), {"normalise": "casefold"})["accuracy"] == 0.0


def test_a_reference_that_is_no_number_is_found_beforehand() -> None:
    with pytest.raises(RowError, match="'seven' is not a number"):
        check(item("seven"), {"numeric_tolerance": 0.1})
    check(item("1,000.5"), {"numeric_tolerance": 0.1})


def test_a_tolerance_of_zero_forgives_rounding() -> None:
    assert score(str(0.1 + 0.2), item("0.3"), {"numeric_tolerance": 0})["accuracy"] == 1.0
    assert score("0.31", item("0.3"), {"numeric_tolerance": 0})["accuracy"] == 0.0


@pytest.mark.parametrize(
    ("text", "expected"), [("", False), ("ye", False), ("yes", False), ("no", True), ("yes, b", True), (" yes ", False)]
)
def test_an_answer_is_settled_when_no_reference_begins_like_it(text: str, expected: bool) -> None:
    assert settled(text, item("yes"), {}) is expected


def test_nothing_is_settled_where_letters_do_not_decide() -> None:
    for options in ({"json": True}, {"pick": "(a)"}, {"numeric_tolerance": 1}, {"normalise": "words"}):
        assert not settled("zzz", item("yes"), options)


def test_all_items_without_the_field_are_named_together() -> None:
    evaluator = load_host().evaluators["json_field"]
    metric = MetricPlan("json_field", evaluator, {"field": "chapter"})
    rows = [item(json.dumps({"chapter": 1} if index % 3 else {"code": 1}), index=index) for index in range(36)]
    with pytest.raises(
        DataError, match=r"'json_field' cannot score 12 of 36 items:\n  test.jsonl:1: .*no field 'chapter'"
    ) as caught:
        ready_metrics([metric], rows)
    assert caught.value.message.endswith("and 2 more")
    ready_metrics([metric], [row for row in rows if "chapter" in row.references[0]])


def test_complaints_of_a_schema_are_counted(tmp_path: Path) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "integer", "maximum": 5}, "b": {"enum": ["x"]}},
    }
    answers = ["{}", '{"a": 9}', '{"a": 8}', '{"a": 1, "b": "y"}', "none", '{"a": 1}']
    found = details(answers, [item("{}")] * 6, {"json_schema": schema})
    assert found["reasons"] == {"not_json": 1, "schema": 4}
    assert {entry["message"]: entry["count"] for entry in found["schema_errors"]} == {
        "maximum: 5 not met (at a)": 2,
        "'a' is a required property (at the top)": 1,
        "not one of the values allowed (at b)": 1,
    }
