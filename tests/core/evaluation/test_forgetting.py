from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from core.evaluation.forgetting import judge_forgetting
from core.evaluation.verdict import verdict
from core.evaluation.wording import say_beside
from core.probes import Probe
from core.results import ProbeReport
from core.types import EvaluationPlan, Evaluator, ForgettingPlan
from tests.core.evaluation.making import exact, make_column, make_metric


def make_plan(max_drop: float | None = None, **evaluation: Any) -> Any:
    forgetting = ForgettingPlan(Probe("default"), max_drop)
    return SimpleNamespace(evaluation=EvaluationPlan(forgetting=forgetting, **evaluation), recipe={"seed": 1})


def report(nll: float, followed: int, *, of: int = 40) -> ProbeReport:
    texts = [{"nll": nll * 50 * (1 + 0.001 * index), "tokens": 50.0} for index in range(24)]
    return ProbeReport({"text": texts, "instructions": [{"followed": float(index < followed)} for index in range(of)]})


def judged(base: ProbeReport, tuned: ProbeReport, max_drop: float | None = None) -> dict[str, Any]:
    found = judge_forgetting(make_plan(max_drop), {"base": base, "tuned": tuned})
    assert found is not None
    return found


def test_nothing_lost_is_said_and_passes() -> None:
    found = judged(report(3.0, 30), report(2.99, 30), 0.02)
    assert (found["outcome"], found["passed"]) == ("not_shown", True)
    assert found["words"].startswith("no forgetting shown: perplexity on general text 20.")
    assert found["words"].endswith("instructions followed 75 % → 75 %")


def test_a_shown_drop_above_what_is_allowed_does_not_pass() -> None:
    found = judged(report(3.0, 38), report(3.0, 4), 0.02)
    assert (found["outcome"], found["passed"]) == ("shown", False)
    assert found["words"] == "forgetting shown, more than the 2 % allowed: instructions followed 95 % → 10 %"
    part = next(part for part in found["parts"] if part["name"] == "instructions")
    assert part["drop"] == pytest.approx(0.85)
    assert part["interval"][0] > 0.5


def test_without_max_drop_a_drop_is_reported_and_refuses_nothing() -> None:
    found = judged(report(3.0, 38), report(3.0, 4))
    assert (found["outcome"], found["passed"]) == ("shown", True)


def test_a_small_drop_that_is_sure_is_within_what_is_allowed() -> None:
    found = judged(report(3.0, 30), report(3.01, 30), 0.02)
    text = found["parts"][0]
    assert text["drop"] == pytest.approx(0.01, abs=2e-3)
    assert text["interval"][0] > 0
    assert (found["outcome"], found["passed"]) == ("within", True)
    assert judged(report(3.0, 30), report(3.1, 30), 0.02)["passed"] is False


def test_a_drop_that_may_be_chance_is_not_shown() -> None:
    assert judged(report(3.0, 30), report(3.0, 28), 0.02)["outcome"] == "not_shown"


def test_both_models_have_to_be_probed() -> None:
    assert judge_forgetting(make_plan(), {"base": report(3.0, 30)}) is None


ACCURACY = make_metric(Evaluator("accuracy", exact))


def words(**beside: Any) -> str:
    columns = {
        "base": make_column("base", accuracy=[0.0] * 30),
        "tuned": make_column("tuned", accuracy=[1.0] * 20 + [0.0] * 10),
    }
    return str(verdict(make_plan(metrics=(ACCURACY,)), columns, **beside)["words"])


def test_the_verdict_says_what_was_lost_beside_the_gain() -> None:
    said = words(forgetting=judged(report(3.0, 30), report(2.99, 30)))
    assert said.startswith("Fine-tuning is worth it: accuracy 0 % → 67 %")
    assert "; no forgetting shown: " in said


@pytest.mark.parametrize(("passed", "said"), [([False], "the gate failed"), ([True, False], "1 of 2 gates failed")])
def test_the_verdict_names_gates_that_failed(passed: list[bool], said: str) -> None:
    assert words(gates=[{"passed": one} for one in passed]).endswith(f"; {said}.")


def test_gates_that_passed_need_no_words() -> None:
    assert say_beside(None, [{"passed": True}]) == []


def test_the_verdict_names_slices_that_got_worse() -> None:
    def row(value: str, outcome: str) -> dict[str, Any]:
        return {"value": value, "items": 9, "comparisons": [{"outcome": outcome, "difference": -0.5}]}

    said = words(slices={"size": [row("small", "worse"), row("large", "better"), row("odd", "not_shown")]})
    assert "; but worse on size small (9 items)" in said
    assert "large" not in said
    assert "odd" not in said


def test_a_gain_that_is_not_shown_says_how_many_items_would_do() -> None:
    columns = {
        "base": make_column("base", accuracy=[1.0] * 10 + [0.0] * 30),
        "tuned": make_column("tuned", accuracy=[0.0] * 2 + [1.0] * 12 + [0.0] * 26),
    }
    found = verdict(make_plan(metrics=(ACCURACY,)), columns)
    assert found["outcome"] == "not_shown"
    # 4 right that were wrong, 2 wrong that were right, of 40: d = 0.05, psi = 0.15
    assert found["comparisons"][0]["needed"] == 469
    assert "; about 470 items would be needed to show a gain of this size" in found["words"]


def test_a_loss_that_is_not_shown_asks_for_no_more_items() -> None:
    columns = {
        "base": make_column("base", accuracy=[1.0] * 11 + [0.0] * 29),
        "tuned": make_column("tuned", accuracy=[1.0] * 10 + [0.0] * 30),
    }
    assert "needed" not in verdict(make_plan(metrics=(ACCURACY,)), columns)["words"]
