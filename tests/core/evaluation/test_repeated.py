from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

from core.check.columns import columns_of, gates_of
from core.evaluation.gates import judge_gates
from core.evaluation.repeated import mean_interval, repeated_difference, repeats_values, variance_of_mean, with_repeats
from core.evaluation.statistics import wilson
from core.results import Repeat
from core.types import EvaluationPlan, Evaluator, Plan
from tests.core.evaluation.making import exact, make_column, make_metric
from tests.core.plans import make_test_plan

ACCURACY = make_metric(Evaluator("accuracy", exact))


def test_the_variance_is_that_of_a_two_way_analysis() -> None:
    """Against the mean squares that statsmodels finds."""
    import pandas
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    rng = numpy.random.default_rng(3)
    table = rng.normal(size=(12, 1)) + 3 * rng.normal(size=(1, 4)) + rng.normal(size=(12, 4))
    frame = pandas.DataFrame([{"item": i, "seed": j, "score": table[i, j]} for i in range(12) for j in range(4)])
    squares = anova_lm(ols("score ~ C(item) + C(seed)", frame).fit())["mean_sq"]
    expected = (squares["C(item)"] + squares["C(seed)"] - squares["Residual"]) / 48
    variance, freedom = variance_of_mean(table.tolist())
    assert variance == pytest.approx(expected)
    assert 3 <= freedom < 48


@pytest.mark.parametrize(("items", "seeds", "spread"), [(110, 3, 0.0), (110, 3, 0.05), (50, 5, 0.1), (500, 3, 0.03)])
def test_intervals_hold_what_they_promise(items: int, seeds: int, spread: float) -> None:
    """The true mean lies inside about 95 times of 100, whether trainings vary or not; right/wrong scores."""
    rng = numpy.random.default_rng(items + seeds)
    inside, rounds = 0, 600
    for _ in range(rounds):
        ability = 0.7 + spread * rng.normal(size=(1, seeds))
        # items differ in how hard they are; the mean over items is the ability
        chance = numpy.clip(ability + 0.2 * rng.choice([-1, 1], size=(items, 1)), 0, 1)
        _, interval = mean_interval((rng.random((items, seeds)) < chance).astype(float).tolist())
        assert interval is not None
        inside += interval[0] <= 0.7 <= interval[1]
    assert 0.925 <= inside / rounds <= 0.995


def test_an_interval_keeps_its_width_where_nothing_varies() -> None:
    assert mean_interval([[1.0] * 3] * 20) == (1.0, wilson(20, 20))
    assert mean_interval([[0.0, 0.0]] * 20)[1] == wilson(0, 20)


def repeats(*shares: int) -> list[Repeat]:
    columns = [make_column("tuned", accuracy=[1.0] * right + [0.0] * (40 - right)) for right in shares]
    return [Repeat(42 + number, column) for number, column in enumerate(columns)]


BASE = make_column("base", accuracy=[1.0] * 10 + [0.0] * 30)


def plan_with(tmp_path: Path, gates: dict[str, Any] | None = None) -> Plan:
    evaluation = EvaluationPlan(
        metrics=(ACCURACY,), columns=columns_of(["base", "tuned"]), gates=gates_of(gates or {}), repeats=3
    )
    return replace(make_test_plan(tmp_path, tmp_path), evaluation=evaluation)


def test_every_training_is_told_with_their_spread(tmp_path: Path) -> None:
    trainings = repeats(30, 26, 28)
    values = repeats_values(plan_with(tmp_path), {"base": BASE, "tuned": trainings[0].column}, trainings)
    assert values is not None
    assert values["seeds"] == [42, 43, 44]
    found = values["metrics"]["accuracy"]
    assert found["values"] == [0.75, 0.65, 0.7]
    assert found["mean"] == pytest.approx(0.7)
    assert found["deviation"] == pytest.approx(0.05)
    difference = found["differences"]["base"]
    assert difference["difference"] == pytest.approx(0.45)
    low, high = difference["interval"]
    assert 0.2 < low < 0.45 < high < 0.7
    assert repeats_values(plan_with(tmp_path), {"base": BASE}, trainings[:1]) is None


def test_a_gain_that_chance_could_have_made_is_not_shown(tmp_path: Path) -> None:
    trainings = repeats(22, 12, 8)
    values = repeats_values(plan_with(tmp_path), {"base": BASE, "tuned": trainings[0].column}, trainings)
    first = {"outcome": "better", "words": "Fine-tuning is worth it.", "metric": "accuracy", "against": "base"}
    verdict = with_repeats(first, values)
    assert verdict["outcome"] == "not_shown"
    assert verdict["words"].startswith("Not shown over 3 trainings. By the first one alone: Fine-tuning is worth it.")
    assert "accuracy from 0.2 to 0.55" in verdict["caveats"][0]
    assert "accuracy from 20.0 % to 55.0 %" in with_repeats(first, values, "share")["caveats"][0]
    steady = repeats(30, 29, 31)
    values = repeats_values(plan_with(tmp_path), {"base": BASE, "tuned": steady[0].column}, steady)
    assert with_repeats(first, values)["outcome"] == "better"
    assert with_repeats(first, None) == first


@pytest.mark.parametrize(("difference", "outcome"), [(-0.1, "not_shown"), (0.45, "better")])
def test_a_difference_the_other_way_bears_nothing_out(difference: float, outcome: str, tmp_path: Path) -> None:
    trainings = repeats(30, 29, 31)
    values = repeats_values(plan_with(tmp_path), {"base": BASE, "tuned": trainings[0].column}, trainings)
    compared = {"metric": "accuracy", "against": "base", "difference": difference}
    first = {"outcome": "better", "words": "Yes.", "metric": "accuracy", "against": "base", "comparisons": [compared]}
    assert with_repeats(first, values)["outcome"] == outcome


def test_gates_on_a_gain_look_at_all_trainings(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, {"accuracy": {"min_gain": {"over": "base", "by": 0.1}}})
    trainings = repeats(30, 12, 10)
    columns = {"base": BASE, "tuned": trainings[0].column}
    (alone,), (together,) = judge_gates(plan, columns), judge_gates(plan, columns, trainings)
    assert alone["passed"]
    assert not together["passed"]
    assert together["found"] == pytest.approx((20 + 2 + 0) / 3 / 40)


def test_figures_that_are_no_mean_have_no_such_interval() -> None:
    metric = make_metric(Evaluator("f1", exact, summarise=lambda scores, options: {"f1": 0.123}))
    results = [replace(column.metrics["accuracy"], value=0.123) for column in (BASE, BASE)]
    assert repeated_difference(metric, results, results[0]) is None
