from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from core.audit.report import SAVED_PLACES
from core.evaluation.verdict import baselines, compare, items_trained_on, verdict
from core.results import ColumnReport
from core.types import EvaluationPlan, Evaluator, MetricPlan
from tests.core.evaluation.making import exact, make_column, make_items, make_metric

ACCURACY = make_metric(Evaluator("accuracy", exact))
FORMAT = make_metric(Evaluator("format_compliance", exact))
LATENCY = make_metric(Evaluator("latency", exact, higher_is_better=False, unit="seconds", needs=("latency",)))
LOSS = make_metric(Evaluator("loss", exact, higher_is_better=False, unit=""))


class FakePlan:
    """What the verdict reads of a plan."""

    def __init__(self, metrics: Sequence[MetricPlan]) -> None:
        self.evaluation = EvaluationPlan(metrics=tuple(metrics))
        self.recipe = {"seed": 42}


def decide(columns: Sequence[ColumnReport], *metrics: MetricPlan) -> dict[str, Any]:
    plan: Any = FakePlan(metrics or (ACCURACY,))
    result = verdict(plan, {column.name: column for column in columns})
    json.dumps(result)  # it stands in run.json
    return result


def right(n: int, of: int) -> list[float | None]:
    return [1.0] * n + [0.0] * (of - n)


TUNED = make_column("tuned", accuracy=right(40, 50))


def test_better_names_both_untuned_columns_and_the_other_shares() -> None:
    columns = [
        make_column("base", accuracy=right(0, 110), format_compliance=right(2, 110)),
        make_column("prompted", accuracy=right(10, 110), format_compliance=right(60, 110)),
        make_column("tuned", accuracy=right(78, 110), format_compliance=right(110, 110)),
    ]
    result = decide(columns, ACCURACY, FORMAT)
    assert result["outcome"] == "better"
    assert result["against"] == "prompted"
    assert result["words"].startswith("Fine-tuning is worth it: accuracy 0 % → 71 %")
    assert "; prompting alone reaches 9 %; difference to prompting +5" in result["words"]
    assert result["words"].endswith("; format compliance 100 %.")
    assert len(result["comparisons"]) == 4
    assert [c["fixed"] for c in result["comparisons"]] == [78, 68, 108, 50]


@pytest.mark.parametrize(("count", "words"), [(1, "1 held-out item was"), (5, "5 held-out items were")])
def test_items_that_were_trained_on_are_named_in_the_verdict(count: int, words: str) -> None:
    columns = {column.name: column for column in (make_column("base", accuracy=right(0, 50)), TUNED)}
    plan: Any = FakePlan((ACCURACY,))
    assert verdict(plan, columns, trained_on=count)["words"].endswith(f"; but {words} trained on, and prove nothing.")
    assert "trained on" not in verdict(plan, columns)["words"]


def test_how_many_items_were_trained_on_is_read_off_the_audit() -> None:
    def data(*findings: dict[str, Any]) -> Any:
        test = [SimpleNamespace(place=f"test.jsonl:{line}") for line in range(1, 61)]
        return SimpleNamespace(test=test, stats={"audit": {"findings": findings}})

    def found(check: str, count: int, file: str = "test", first: int = 1) -> dict[str, Any]:
        kept = range(first, first + min(count, SAVED_PLACES))
        return {"check": check, "count": count, "places": [f"{file}.jsonl:{line}" for line in kept]}

    assert items_trained_on(data(found("near_leakage", 3), found("leakage", 2))) == 2
    assert items_trained_on(data(found("leakage", 50))) == 50, "more than the places that are kept"
    assert items_trained_on(data(found("leakage", 4, first=59))) == 2, "the others are beyond the limit"
    assert items_trained_on(data(found("leakage", 2), found("leakage", 7, file="validation"))) == 2
    assert items_trained_on(data()) == items_trained_on(SimpleNamespace(test=(), stats={})) == 0  # type: ignore[arg-type]


def test_the_interval_of_the_tuned_figure_is_said() -> None:
    from dataclasses import replace

    tuned = make_column("tuned", accuracy=right(78, 110))
    scored = replace(tuned.metrics["accuracy"], interval=(0.618, 0.786))
    columns = [make_column("base", accuracy=right(0, 110)), replace(tuned, metrics={"accuracy": scored})]
    assert "0 % → 71 % (95 % CI 62–79)" in decide(columns)["words"]


def test_beating_the_base_is_not_enough_where_prompting_does_as_well() -> None:
    columns = [
        make_column("base", accuracy=right(0, 40)),
        make_column("prompted", accuracy=right(30, 40)),
        make_column("tuned", accuracy=right(31, 40)),
    ]
    result = decide(columns)
    assert (result["outcome"], result["against"]) == ("not_shown", "prompted")
    assert result["words"].startswith("Not shown with 40 items that fine-tuning helps: accuracy 0 % → 78 %")


def test_worse() -> None:
    result = decide([make_column("base", accuracy=right(35, 40)), make_column("tuned", accuracy=right(10, 40))])
    assert result["outcome"] == "worse"
    assert result["words"].startswith("Fine-tuning made it worse: accuracy 88 % → 25 %")
    assert result["comparisons"][0]["broken"] == 25


def test_too_few_items_show_nothing() -> None:
    result = decide([make_column("base", accuracy=right(1, 4)), make_column("tuned", accuracy=right(3, 4))])
    assert result["outcome"] == "not_shown"


def test_two_items_do_not_make_it_worth_it() -> None:
    result = decide([make_column("base", accuracy=right(0, 2)), make_column("tuned", accuracy=right(2, 2))])
    assert result["comparisons"][0]["interval"][0] > 0
    assert result["outcome"] == "not_shown"
    assert result["words"].startswith("Not shown with 2 items that fine-tuning helps: accuracy 0 % → 100 %")
    assert "points, which the paired test does not bear out (p = 0.5); about 6 items would be needed" in result["words"]


def test_the_deciding_metric_has_to_stand_among_the_others() -> None:
    columns = [
        make_column("base", accuracy=right(0, 40), format_compliance=right(10, 40)),
        make_column("tuned", accuracy=right(6, 40), format_compliance=right(11, 40)),
    ]
    assert decide(columns)["outcome"] == "better", "p = 0.031 alone"
    result = decide(columns, ACCURACY, FORMAT)
    assert (result["metric"], result["outcome"]) == ("accuracy", "not_shown")
    assert "does not bear out (p = 0.031, 0.062 corrected for the number of metrics)" in result["words"]


@pytest.mark.parametrize(("items", "words"), [(1, "Not shown with 1 item that"), (4, "Not shown with 4 items that")])
def test_one_item_is_one_item(items: int, words: str) -> None:
    result = decide([make_column("base", accuracy=right(0, items)), make_column("tuned", accuracy=right(0, items))])
    assert result["words"].startswith(words)


def test_the_best_untuned_column_may_be_the_base() -> None:
    columns = [
        make_column("base", accuracy=right(20, 50)),
        make_column("prompted", accuracy=right(5, 50)),
        make_column("tuned", accuracy=right(45, 50)),
    ]
    assert decide(columns)["against"] == "base"


def test_lower_is_better_where_the_metric_says_so() -> None:
    low, high = [0.5 + 0.01 * i for i in range(20)], [1.5 + 0.02 * i for i in range(20)]
    result = decide([make_column("base", loss=high), make_column("tuned", loss=low)], LOSS)
    assert result["outcome"] == "better"
    assert result["comparisons"][0]["difference"] < 0
    assert decide([make_column("base", loss=low), make_column("tuned", loss=high)], LOSS)["outcome"] == "worse"


def test_a_handful_of_measured_items_is_never_sure() -> None:
    result = decide(
        [make_column("base", loss=[2.0, 2.1, 2.2]), make_column("tuned", loss=[1.0, 1.05, 1.2])],
        LOSS,
    )
    assert result["outcome"] == "not_shown"


def test_the_first_metric_that_judges_answers_decides() -> None:
    columns = [
        make_column("base", latency=[1.0, None, 1.1], accuracy=right(0, 3)),
        make_column("tuned", latency=[2.0, None, 2.1], accuracy=right(3, 3)),
    ]
    result = decide(columns, LATENCY, ACCURACY)
    assert result["metric"] == "accuracy"
    assert [c["n"] for c in result["comparisons"]] == [2, 3]


def test_p_values_are_corrected_within_the_family_of_the_best_column() -> None:
    columns = [
        make_column("base", accuracy=right(10, 40), format_compliance=right(10, 40)),
        make_column("tuned", accuracy=right(18, 40), format_compliance=right(40, 40)),
    ]
    first, second = decide(columns, ACCURACY, FORMAT)["comparisons"]
    assert first["p_value_holm"] == first["p_value"]
    assert second["p_value_holm"] == pytest.approx(2 * second["p_value"])


def test_without_test_items_there_is_no_verdict() -> None:
    result = decide([])
    assert result["outcome"] == "no_test_set"
    assert "evaluation.datasets" in result["words"]


@pytest.mark.parametrize("names", [("tuned",), ("base", "prompted")])
def test_with_nothing_to_compare_there_is_no_verdict(names: Sequence[str]) -> None:
    result = decide([make_column(name, accuracy=right(1, 3)) for name in names])
    assert result["outcome"] == "not_compared"


def test_a_metric_that_applies_to_nothing_decides_nothing() -> None:
    columns = [make_column(name, accuracy=[None, None]) for name in ("base", "tuned")]
    assert decide(columns)["outcome"] == "not_compared"


def test_nearly_all_is_not_said_to_be_all() -> None:
    columns = [make_column("base", accuracy=right(1, 400)), make_column("tuned", accuracy=right(399, 400))]
    assert "accuracy 0.3 % → 99.8 %" in decide(columns)["words"]


def test_compare_leaves_out_items_without_both_scores() -> None:
    first = make_column("tuned", accuracy=[1.0, None, 1.0, 0.0])
    second = make_column("base", accuracy=[0.0, 1.0, None, 0.0])
    assert compare(ACCURACY, first, second)["n"] == 2


def test_baselines_of_a_closed_set() -> None:
    found = baselines(make_items("yes", "yes", "yes", "no", " yes", "no"))
    assert found == {"answers": 2, "chance": 0.5, "majority": 4 / 6, "majority_answer": "yes"}


def test_free_answers_have_no_baseline() -> None:
    assert baselines(make_items("a", "b", "c")) is None
    assert baselines([]) is None
