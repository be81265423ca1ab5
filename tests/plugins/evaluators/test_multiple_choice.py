from __future__ import annotations

from typing import Any

import pytest

from core import RowError
from plugins.evaluators.multiple_choice import check, choices, score, summarise
from tests.plugins.evaluators.rows import item

# the second is the most likely as a whole, the first per token
FACTS = {"nll:0": 4.0, "tokens:0": 4.0, "nll:1": 3.0, "tokens:1": 1.0}
OPTIONS: dict[str, Any] = {"choices": ["a long one", "no"]}


def test_the_most_likely_choice_is_the_answer() -> None:
    found = score("", item("a long one", facts=FACTS), OPTIONS)
    assert (found["multiple_choice"], found["by_sum"], found["by_token"], found["chosen"]) == (0.0, 0.0, 1.0, 1.0)
    found = score("", item("a long one", facts=FACTS), {**OPTIONS, "by": "token"})
    assert (found["multiple_choice"], found["chosen"]) == (1.0, 0.0)
    assert score("", item("a long one", facts=FACTS), OPTIONS)["by_character"] == 1.0
    assert summarise([found, found], OPTIONS)["multiple_choice"] == 1.0


def test_an_item_that_was_not_measured_has_no_score() -> None:
    assert score("", item("no"), OPTIONS) == {}


def test_choices_may_stand_in_the_row() -> None:
    assert choices(item("x", options=["x", 3]), {"choices": "options"}) == ["x", "3"]
    assert choices(item("x", options={"text": ["x", "y"], "label": ["A", "B"]}), {"choices": "options"}) == ["x", "y"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "no field 'options'"),
        ({"options": "x"}, "not a list of choices"),
        ({"options": ["x"]}, "not a list of choices"),
        ({"options": ["x", " "]}, "one of the choices is empty"),
        ({"options": ["y", "z"]}, "'x' is none of the choices 'y', 'z'"),
    ],
)
def test_items_that_cannot_be_scored_are_found_beforehand(row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        check(item("x", **row), {"choices": "options"})
