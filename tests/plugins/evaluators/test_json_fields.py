from __future__ import annotations

import json
from typing import Any

import pytest

from core import RowError
from plugins.evaluators.json_fields import check, complete, details, score, settled, summarise
from tests.plugins.evaluators.rows import item

FIELDS: dict[str, Any] = {"fields": ["city", "people"]}


def text(**values: Any) -> str:
    return json.dumps(values)


def test_entries_are_counted_per_field_and_in_any_order() -> None:
    found = score(
        text(city="Rome", people=["Ada", "Bob"]), item(text(city="Rome", people=["Bob", "Cy", "Ada"])), FIELDS
    )
    assert (found["tp:people"], found["fp:people"], found["fn:people"]) == (2, 0, 1)
    assert (found["tp:city"], found["fn:city"]) == (1, 0)
    assert found["json_fields"] == pytest.approx(2 * 3 / (2 * 3 + 1))


def test_micro_and_macro_averages() -> None:
    pairs = [
        (text(city="Rome", people=["Ada"]), text(city="Rome", people=["Ada", "Bob"])),
        (text(city="Bern", people=["Eve"]), text(city="Rome", people=["Cy"])),
        ("no JSON", text(city="Oslo", people=[])),
    ]
    scores = [score(answer, item(reference), FIELDS) for answer, reference in pairs]
    found = summarise(scores, FIELDS)
    # city: tp 1, fp 1, fn 2; people: tp 1, fp 1, fn 2
    assert found["micro_f1"] == pytest.approx(4 / (4 + 2 + 4))
    assert (found["precision"], found["recall"]) == (pytest.approx(0.5), pytest.approx(1 / 3))
    assert found["macro_f1"] == pytest.approx((2 / 5 + 2 / 5) / 2)
    assert found["valid"] == pytest.approx(2 / 3)
    assert summarise(scores, {**FIELDS, "average": "macro"})["json_fields"] == found["macro_f1"]
    told = details([answer for answer, _ in pairs], [item(reference) for _, reference in pairs], FIELDS)
    assert told["per_field"]["city"] == {"precision": 0.5, "recall": pytest.approx(1 / 3), "f1": 0.4, "support": 3}
    assert told["reasons"] == {"not_json": 1}


def test_a_field_that_the_answer_makes_up_lowers_precision() -> None:
    found = score(text(city="Rome"), item(text(people=["Ada"])), FIELDS)
    assert (found["fp:city"], found["fn:people"], found["json_fields"]) == (1, 1, 0.0)


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    assert score("{}", item(text(city=None)), FIELDS)["json_fields"] == 1.0


@pytest.mark.parametrize(("answer", "right"), [("1", 0.0), ("true", 1.0)])
def test_true_is_not_one(answer: str, right: float) -> None:
    assert score(f'{{"city": {answer}}}', item('{"city": true}'), {"fields": ["city"]})["json_fields"] == right


def test_all_fields_of_the_references_are_compared_where_none_is_named() -> None:
    assert complete([item('{"a": 1}'), item('{"b": 2, "a": 1}')], {})["fields"] == ["a", "b"]


def test_a_reference_without_the_fields_is_found_beforehand() -> None:
    check(item('{"city": "Rome"}'), FIELDS)
    with pytest.raises(RowError, match="none of the fields city, people"):
        check(item('{"town": "Rome"}'), FIELDS)
    with pytest.raises(RowError, match="is not JSON"):
        check(item("Rome"), FIELDS)
    with pytest.raises(RowError, match="no JSON object"):
        check(item("[1]"), {})


def test_the_first_json_counts_where_the_recipe_says_so() -> None:
    options = {**FIELDS, "first_json": True}
    answer = 'Here it is: {"city": "Rome"} and {"city": "Bern"}'
    assert score(answer, item(text(city="Rome")), options)["json_fields"] == 1.0
    assert score(answer, item(text(city="Rome")), FIELDS)["json_fields"] == 0.0
    assert settled(answer[:28], item(text(city="Rome")), options)
    assert not settled(answer[:27], item(text(city="Rome")), options)
    assert not settled('{"city": {"name": "Rome"}', item(text(city="Rome")), options), "the outer object is still open"
    assert not settled(answer, item(text(city="Rome")), FIELDS)
