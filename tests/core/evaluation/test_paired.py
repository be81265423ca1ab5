from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from core.evaluation.metrics import score
from core.evaluation.paired import compare
from core.host import load_host
from core.results import ColumnReport
from core.types import Evaluator, MetricPlan
from tests.core.evaluation.making import make_answer, make_items, make_metric

CLASSES = make_metric(load_host().evaluators["classification"], labels=["a", "b", "c"], average="macro")


def column(name: str, metric: MetricPlan, answers: Sequence[str], references: Sequence[str]) -> ColumnReport:
    generations = [make_answer(answer) for answer in answers]
    return ColumnReport(name, generations, {metric.name: score(metric, generations, make_items(*references), seed=1)})


def test_a_figure_that_is_no_mean_is_compared_as_itself() -> None:
    references = ["a"] * 30 + ["b"] * 6 + ["c"] * 4
    base = column("base", CLASSES, ["a"] * 40, references)
    tuned = column("tuned", CLASSES, references, references)
    found = compare(CLASSES, tuned, base)
    macro = base.metrics["classification"].value
    assert macro is not None
    assert macro < 0.3
    assert found["difference"] == pytest.approx(1.0 - macro), "not the difference of the shares of right answers"
    assert found["outcome"] == "better"
    assert found["p_value"] < 0.05
    low, high = found["interval"]
    assert low <= found["difference"] <= high + 1e-9


def test_equal_columns_show_nothing() -> None:
    references = ["a", "b", "c"] * 8
    first = column("tuned", CLASSES, references, references)
    second = column("base", CLASSES, references, references)
    found = compare(CLASSES, first, second)
    assert (found["outcome"], found["difference"], found["needed"]) == ("not_shown", 0.0, None)


def test_zero_and_one_are_right_and_wrong_only_for_a_share() -> None:
    def scored(prediction: str, item: Any, options: Any) -> dict[str, float]:
        return {"m": float(len(prediction) - 1)}

    answers, references = ["xx", "x"] * 10, ["r"] * 20
    points = make_metric(Evaluator("m", scored, unit=""))
    share = make_metric(Evaluator("m", scored))
    assert (
        column("c", points, answers, references).metrics["m"].interval
        != column("c", share, answers, references).metrics["m"].interval
    )
    same = [column(name, points, answers, references) for name in ("tuned", "base")]
    assert compare(points, *same)["interval"] is None, "no interval of a difference that never changes"
    same = [column(name, share, answers, references) for name in ("tuned", "base")]
    assert compare(share, *same)["interval"] is not None


@pytest.mark.parametrize(("items", "outcome"), [(2, "not_shown"), (5, "not_shown"), (6, "better"), (40, "better")])
def test_the_paired_test_must_agree_with_the_interval(items: int, outcome: str) -> None:
    accuracy = make_metric(load_host().evaluators["accuracy"])
    references = ["a"] * items
    tuned = column("tuned", accuracy, references, references)
    base = column("base", accuracy, ["b"] * items, references)
    found = compare(accuracy, tuned, base)
    assert found["interval"][0] > 0, "by the interval alone even two items would do"
    assert found["p_value"] == pytest.approx(min(1.0, 2 / 2**items))
    assert found["outcome"] == outcome
    assert compare(accuracy, base, tuned)["outcome"] == {"better": "worse"}.get(outcome, outcome)


def test_only_the_items_asked_for_are_compared() -> None:
    accuracy = make_metric(load_host().evaluators["accuracy"])
    references = ["a"] * 10
    tuned = column("tuned", accuracy, ["a"] * 5 + ["b"] * 5, references)
    base = column("base", accuracy, ["b"] * 5 + ["a"] * 5, references)
    assert compare(accuracy, tuned, base)["difference"] == 0.0
    among = compare(accuracy, tuned, base, among=range(5))
    assert (among["n"], among["difference"], among["fixed"]) == (5, 1.0, 5)
