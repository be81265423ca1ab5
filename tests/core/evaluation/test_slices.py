from __future__ import annotations

from typing import Any

import pytest

from core.errors import DataError
from core.evaluation.metrics import score_column
from core.evaluation.slices import MOST, slice_items
from core.evaluation.statistics import wilson
from core.types import Evaluator
from tests.core.evaluation.making import exact, make_answer, make_item, make_metric


def items(*values: Any, field: str = "size") -> list[Any]:
    return [
        make_item("yes", index=index, row={} if value is ... else {field: value}) for index, value in enumerate(values)
    ]


def test_values_with_the_most_items_come_first() -> None:
    found = slice_items(items("small", "large", "large", 3, ..., None), ["size"])
    assert found == {"size": {"large": [1, 2], "(none)": [4, 5], "small": [0], "3": [3]}}


def test_dots_lead_into_nested_objects_unless_the_name_has_them() -> None:
    rows = [make_item(row={"meta": {"lang": "de"}}), make_item(row={"meta": {"lang": "en"}}), make_item(row={})]
    assert slice_items(rows, ["meta.lang"])["meta.lang"] == {"de": [0], "en": [1], "(none)": [2]}
    assert slice_items([make_item(row={"meta.lang": "fr"})], ["meta.lang"])["meta.lang"] == {"fr": [0]}


def test_rare_values_stand_together() -> None:
    found = slice_items(items(*range(MOST + 5), 0, 0), ["size"])["size"]
    assert len(found) == MOST + 1
    assert found["0"] == [0, MOST + 5, MOST + 6]
    assert len(found["(5 others)"]) == 5


def test_a_field_that_no_row_has_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match="'sise'") as caught:
        slice_items(items("small"), ["sise"])
    assert "did you mean 'size'?" in (caught.value.help or "")


def test_every_metric_has_a_figure_and_an_interval_per_slice() -> None:
    rows = items("small", "small", "large")
    answers = [make_answer("yes"), make_answer("no"), make_answer("yes")]
    slices = slice_items(rows, ["size"])
    result = score_column([make_metric(Evaluator("accuracy", exact))], answers, rows, {}, seed=1, slices=slices)
    found = result["accuracy"].slices["size"]
    assert (found["small"].value, found["small"].interval, found["small"].n) == (0.5, wilson(1, 2), 2)
    assert (found["large"].value, found["large"].n) == (1.0, 1)
