from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from core.errors import UserError
from core.evaluation.metrics import score, score_column
from core.evaluation.statistics import wilson
from core.types import Evaluator
from tests.core.evaluation.making import exact, make_answer, make_items, make_metric

ITEMS = make_items("yes", "no", "yes")
ANSWERS = [make_answer("yes"), make_answer("yes"), make_answer("yes")]


def test_right_and_wrong_become_a_share_with_wilsons_interval() -> None:
    result = score(make_metric(Evaluator("accuracy", exact)), ANSWERS, ITEMS, seed=1)
    assert result.value == pytest.approx(2 / 3)
    assert result.scores == [1.0, 0.0, 1.0]
    assert result.interval == wilson(2, 3)
    assert (result.n, result.summary) == (3, {"accuracy": pytest.approx(2 / 3)})


def test_the_key_named_like_the_evaluator_is_compared_even_under_another_name() -> None:
    def scored(prediction: str, item: Any, options: Any) -> dict[str, float]:
        return {"detail": 5.0, "accuracy": 1.0}

    result = score(make_metric(Evaluator("accuracy", scored), name="accuracy-2"), ANSWERS, ITEMS, seed=1)
    assert (result.value, result.summary["detail"]) == (1.0, 5.0)


def test_without_such_a_key_the_first_is_compared() -> None:
    result = score(make_metric(Evaluator("other", lambda *_: {"a": 0.25, "b": 1.0})), ANSWERS, ITEMS, seed=1)
    assert result.value == 0.25


def test_items_without_a_score_are_left_out_and_marked() -> None:
    def scored(prediction: str, item: Any, options: Any) -> dict[str, float]:
        return {"m": 1.0} if item.index else {}

    result = score(make_metric(Evaluator("m", scored)), ANSWERS, ITEMS, seed=1)
    assert (result.scores, result.n, result.value) == ([None, 1.0, 1.0], 2, 1.0)


def test_a_metric_that_applies_to_nothing_has_no_value() -> None:
    result = score(make_metric(Evaluator("m", lambda *_: {})), ANSWERS, ITEMS, seed=1)
    assert (result.value, result.interval, result.n, result.scores) == (None, None, 0, [None, None, None])


def test_an_evaluators_own_summary_is_used_and_resampled() -> None:
    def summarise(scores: Sequence[dict[str, float]], options: Any) -> dict[str, float]:
        return {"longest": max(entry["m"] for entry in scores), "m": sum(entry["m"] for entry in scores)}

    metric = make_metric(Evaluator("m", lambda p, item, o: {"m": float(item.index)}, summarise=summarise))
    result = score(metric, ANSWERS, ITEMS, seed=1)
    assert (result.value, result.summary) == (3.0, {"longest": 2.0, "m": 3.0})
    assert result.interval is not None
    assert 0 <= result.interval[0] < result.interval[1] <= 6


def test_options_and_measured_facts_reach_the_evaluator() -> None:
    seen: list[Any] = []

    def scored(prediction: str, item: Any, options: Any) -> dict[str, float]:
        seen.append((prediction, dict(item.facts), options["x"]))
        return {"m": 1.0}

    facts = {"latency": {1: {"seconds": 0.5, "tokens": 3.0}}, "likelihood": {1: {"nll": 2.0, "tokens": 9.0}}}
    timed = make_metric(Evaluator("timed", scored, needs=("latency",)), x=4)
    plain = make_metric(Evaluator("plain", scored), x=5)
    assert list(score_column([timed, plain], ANSWERS, ITEMS, facts, seed=1)) == ["timed", "plain"]
    assert seen[1] == ("yes", {"seconds": 0.5, "tokens": 3.0}, 4)
    assert seen[0][1] == {}
    assert [entry[1] for entry in seen[3:]] == [{}, {}, {}], "a metric sees only the facts it needs"


def test_a_metric_that_raises_names_itself_and_the_item() -> None:
    def scored(prediction: str, item: Any, options: Any) -> dict[str, float]:
        return {"m": 1 / item.index}

    with pytest.raises(UserError, match=r"'m' failed on the item at test.jsonl:1: ZeroDivisionError") as caught:
        score(make_metric(Evaluator("m", scored)), ANSWERS, ITEMS, seed=1)
    assert "'yes'" in (caught.value.help or "")


def test_a_metric_of_a_plugin_that_raises_names_plugin_item_and_field() -> None:
    def scored(prediction: str, item: Any, options: Any) -> dict[str, float]:
        return {"m": float(item.row["dose"])}

    metric = replace(make_metric(Evaluator("m", scored)), plugin="dosage_metrics")
    said = r"'m' of the plugin 'dosage_metrics' failed on the item at test.jsonl:1, field 'dose': KeyError"
    with pytest.raises(UserError, match=said):
        score(metric, ANSWERS, ITEMS, seed=1)


@pytest.mark.parametrize("value", [{"m": float("nan")}, {"m": float("inf")}, {"m": "1"}, 1.0, None, {"m": None}])
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match="not a map of names to finite numbers"):
        score(make_metric(Evaluator("m", lambda *_: value)), ANSWERS, ITEMS, seed=1)


@pytest.mark.parametrize("figure", [lambda: 1 / 0, lambda: float("nan"), lambda: "high"])
def test_a_summary_that_is_no_finite_number_names_the_metric(figure: Any) -> None:
    evaluator = Evaluator("m", lambda *_: {"m": 1.0}, summarise=lambda scores, options: {"m": figure()})
    with pytest.raises(UserError, match=r"the metric 'm' .*sums? up 3 scores") as caught:
        score(make_metric(evaluator), ANSWERS, ITEMS, seed=1)
    assert "plugin" in (caught.value.help or "")


def test_a_metric_sees_what_stands_behind_the_thinking() -> None:
    items = [replace(item, thinking_ends="</think>" if item.index == 0 else "") for item in ITEMS]
    answers = [
        make_answer(text) for text in ("<think>Or no?</think>\n\nyes", "<think>a</think>b</think> no", "<think>yes")
    ]
    result = score(make_metric(Evaluator("accuracy", exact)), answers, items, seed=1)
    # the last one never came to an end of its thinking
    assert result.scores == [1.0, 1.0, 0.0]
    assert score(make_metric(Evaluator("accuracy", exact)), answers, ITEMS, seed=1).scores == [0.0, 0.0, 0.0]
