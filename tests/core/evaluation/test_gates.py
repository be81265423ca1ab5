from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.check import check_recipe
from core.check.columns import columns_of, gates_of
from core.errors import Problem
from core.evaluation.gates import exit_code, judge_gates
from core.evaluation.statistics import newcombe_paired
from core.host import Host
from core.recipe import load_recipe
from core.results import ColumnReport, Repeat
from core.types import EvaluationPlan, Evaluator, Plan
from tests.core.evaluation.making import exact, make_column, make_metric
from tests.core.plans import make_test_plan

ACCURACY = make_metric(Evaluator("accuracy", exact))
LATENCY = make_metric(Evaluator("latency", exact, higher_is_better=False, unit="seconds"))
BASE = make_column("base", accuracy=[0.0] * 40, latency=[2.0] * 39 + [2.1])
PROMPTED = make_column("prompted", accuracy=[1.0] * 10 + [0.0] * 30, latency=[3.0] * 39 + [3.1])
TUNED = make_column("tuned", accuracy=[1.0] * 30 + [0.0] * 10, latency=[1.0] * 39 + [1.2])


def judged(tmp_path: Path, gates: dict[str, Any], *columns: ColumnReport) -> list[dict[str, Any]]:
    columns = columns or (BASE, PROMPTED, TUNED)
    plan: Plan = make_test_plan(tmp_path, tmp_path)
    evaluation = EvaluationPlan(
        metrics=(ACCURACY, LATENCY), columns=columns_of(["base", {"prompted": {}}, "tuned"]), gates=gates_of(gates)
    )
    return judge_gates(replace(plan, evaluation=evaluation), {column.name: column for column in columns})


def test_a_bound_is_judged_by_all_trainings(tmp_path: Path) -> None:
    from core.evaluation.repeated import mean_interval

    plan: Plan = make_test_plan(tmp_path, tmp_path)
    rules = {"accuracy": {"at_least": 0.6}, "latency": {"at_most": 1.1}}
    evaluation = EvaluationPlan(
        metrics=(ACCURACY, LATENCY), columns=columns_of(["base", "tuned"]), gates=gates_of(rules)
    )
    plan = replace(plan, evaluation=evaluation)
    worse = make_column("tuned", accuracy=[1.0] * 10 + [0.0] * 30, latency=[1.0] * 40)
    columns = {"base": BASE, "tuned": TUNED}
    first, _ = judge_gates(plan, columns, [Repeat(1, TUNED)])
    assert (first["found"], first["passed"]) == (0.75, True), "one training: its own figure"
    both, seconds = judge_gates(plan, columns, [Repeat(1, TUNED), Repeat(2, worse)])
    assert (both["found"], both["passed"]) == (0.5, False)
    assert seconds["found"] == pytest.approx((1.005 + 1.0) / 2)

    sure = replace(evaluation, gates=gates_of({"accuracy": {"at_least": 0.1, "confidence": 0.9}}))
    (gate,) = judge_gates(replace(plan, evaluation=sure), columns, [Repeat(1, TUNED), Repeat(2, worse)])
    table = list(zip(TUNED.metrics["accuracy"].scores, worse.metrics["accuracy"].scores, strict=True))
    assert gate["interval"] == pytest.approx(mean_interval(table, 0.9)[1])
    assert gate["passed"] is (gate["interval"][0] >= 0.1)


def test_a_training_without_a_figure_is_not_judged(tmp_path: Path) -> None:
    plan: Plan = make_test_plan(tmp_path, tmp_path)
    evaluation = EvaluationPlan(
        metrics=(ACCURACY,), columns=columns_of(["tuned"]), gates=gates_of({"accuracy": {"at_least": 0.6}})
    )
    nothing = make_column("tuned", accuracy=[None] * 40)
    repeats = [Repeat(1, TUNED), Repeat(2, nothing)]
    (gate,) = judge_gates(replace(plan, evaluation=evaluation), {"tuned": TUNED}, repeats)
    assert not gate["passed"]
    assert gate["words"] == "accuracy: cannot be judged, one of the trainings has no figure"


def test_a_gain_has_to_be_shown_by_its_whole_interval(tmp_path: Path) -> None:
    (gate,) = judged(tmp_path, {"accuracy": {"min_gain": {"over": "best_untuned", "by": 0.3}}})
    assert (gate["over"], gate["found"], gate["confidence"], gate["n"]) == ("prompted", 0.5, 0.95, 40)
    assert gate["interval"] == pytest.approx(newcombe_paired(10, 20, 0, 10))
    assert gate["passed"]
    assert gate["words"].startswith("accuracy: passed, gain over prompted +50.0 points (95 % interval +31.6 to +63.1")
    (gate,) = judged(tmp_path, {"accuracy": {"min_gain": {"over": "best_untuned", "by": 0.35}}})
    assert not gate["passed"]
    (gate,) = judged(tmp_path, {"accuracy": {"min_gain": {"over": "best_untuned", "by": 0.35, "confidence": 0}}})
    assert gate["passed"], "the measured gain alone"
    assert gate["interval"] is None
    (gate,) = judged(tmp_path, {"accuracy": {"min_gain": {"over": "best_untuned", "by": 0.35, "confidence": 0.5}}})
    assert gate["passed"], "a narrower interval"


def test_less_is_more_where_the_metric_says_so(tmp_path: Path) -> None:
    (gate,) = judged(tmp_path, {"latency": {"min_gain": {"over": "best_untuned", "by": 0.5}}})
    assert gate["over"] == "base"
    assert gate["found"] == pytest.approx(0.9975, abs=1e-4)
    assert gate["passed"]
    slow, fast = judged(tmp_path, {"latency": {"at_most": 1.5, "at_least": 1.1}})
    assert slow["passed"]
    assert not fast["passed"]
    assert "1.5 s demanded" in slow["words"]


def test_a_bound_holds_for_the_figure_or_for_its_interval(tmp_path: Path) -> None:
    (gate,) = judged(tmp_path, {"accuracy": {"at_least": 0.75}})
    assert gate["passed"]
    assert (gate["found"], gate["interval"]) == (0.75, None)
    (gate,) = judged(tmp_path, {"accuracy": {"at_least": 0.65, "confidence": 0.9}})
    assert not gate["passed"], "Wilson's lower bound at 90 % is 0.62"
    (gate,) = judged(tmp_path, {"accuracy": {"at_least": 0.6, "confidence": 0.9, "column": "tuned"}})
    assert gate["passed"]
    (gate,) = judged(tmp_path, {"accuracy": {"at_most": 0.5, "column": "prompted"}})
    assert gate["passed"]
    assert gate["words"].startswith("accuracy of prompted: passed")


def test_what_cannot_be_judged_has_not_passed(tmp_path: Path) -> None:
    nothing = make_column("tuned", accuracy=[None, None], latency=[None, None])
    (gate,) = judged(tmp_path, {"accuracy": {"at_least": 0.0}}, BASE, nothing)
    assert not gate["passed"]
    assert gate["words"] == "accuracy: cannot be judged, the column 'tuned' has no figure"
    (gate,) = judged(tmp_path, {"accuracy": {"min_gain": {"over": "prompted", "by": -1}}}, BASE, TUNED)
    assert not gate["passed"]
    assert exit_code([gate]) == 3
    assert exit_code([]) == exit_code([{"passed": True}]) == 0


# ---------------------------------------------------------------- at check time


START = """base_model: org/model
datasets: [{path: org/data, type: alpaca}]
evaluation:
  datasets: [{path: org/test, type: alpaca}]
  metrics: [{type: accuracy}, {type: accuracy}, {type: latency}]
"""


@pytest.fixture
def problems(tmp_path: Path, host: Host) -> Any:
    def find(text: str, start: str = START) -> list[Problem]:
        (tmp_path / "recipe.yml").write_text(start + text, encoding="utf-8")
        return check_recipe(load_recipe(tmp_path / "recipe.yml"), host)

    return find


def test_gates_that_can_be_judged_have_no_problems(problems: Any) -> None:
    gates = "{accuracy-2: {min_gain: {over: best_untuned, by: -0.02}}, latency: {at_most: 2.5, confidence: 0.9}}"
    assert problems(f"  gates: {gates}\n") == []


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ("{acuracy: {at_least: 0.5}}", "a gate on 'acuracy', which is not scored"),
        ("{token_f1: {at_least: 0.5}}", "a gate on 'token_f1', which is not scored"),
        ("{accuracy: {at_least: 95}}", "'accuracy' is a share between 0 and 1, and at_least asks for 95"),
        ("{accuracy: {min_gain: {over: based, by: 0.1}}}", "no column 'based' is compared"),
        ("{accuracy: {min_gain: {over: tuned, by: 0.1}}}", "the column 'tuned' cannot gain over itself"),
        ("{accuracy: {min_gain: {over: base}}}", "'by' is missing in 'evaluation.gates.accuracy.min_gain'"),
        ("{accuracy: {at_leest: 0.5}}", "unknown key 'at_leest' in 'evaluation.gates.accuracy'"),
        ("{accuracy: {column: base}}", "the gate on 'accuracy' demands nothing"),
        ("{accuracy: {at_least: 0.5, column: other}}", "no column 'other' is compared"),
        ("{latency: {at_least: 3, at_most: 2}}", "at_most is 2, below at_least 3: nothing can pass"),
        ("{accuracy: 0.9}", "'evaluation.gates.accuracy' is 0.9, expected a map"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_found_before_the_run(problems: Any, gates: str, message: str) -> None:
    found = problems(f"  gates: {gates}\n")
    assert [problem.message for problem in found] == [message]
    assert found[0].position is not None
    assert found[0].position.line == 6


@pytest.mark.parametrize(
    ("override", "away"),
    [
        ("evaluation.metrics=[{type: token_f1}]", "evaluation.gates"),
        ("evaluation.metrics.0.type=token_f1", "evaluation.gates.accuracy"),
    ],
)
def test_gates_on_metrics_that_the_command_line_replaced_are_left_out_by_it(
    host: Host, tmp_path: Path, override: str, away: str
) -> None:
    start = START.replace("{type: accuracy}, {type: accuracy}", "{type: accuracy}")
    text = start + "  gates: {accuracy: {at_least: 0.5}, latency: {at_most: 2}}\n"
    (tmp_path / "recipe.yml").write_text(text, encoding="utf-8")
    found = check_recipe(load_recipe(tmp_path / "recipe.yml", [override]), host)
    assert found[0].message == "a gate on 'accuracy', which is not scored"
    assert f"leave the gate out with --set {away}=null" in (found[0].help or "")
    assert check_recipe(load_recipe(tmp_path / "recipe.yml", [override, f"{away}=null"]), host) == []
    (own,) = check_recipe(load_recipe(tmp_path / "recipe.yml", ["evaluation.gates.token_f1.at_least=1"]), host)
    assert "--set" not in (own.help or "")


def test_gates_need_columns_and_held_out_data(problems: Any) -> None:
    (found,) = problems("  compare: [tuned]\n  gates: {accuracy: {min_gain: {over: best_untuned, by: 0.1}}}\n")
    assert found.message == "there is no untuned column to gain over"
    start = START.replace("  datasets: [{path: org/test, type: alpaca}]\n", "")
    assert "the gates cannot be judged: there is no held-out data" in [
        problem.message for problem in problems("  gates: {accuracy: {at_least: 0.5}}\n", start)
    ]


def test_repeats_that_nobody_would_compare_are_told(problems: Any) -> None:
    (found,) = problems("  compare: [base]\n  repeats: 3\n")
    assert found.message == "'repeats' has no effect: the tuned model is not scored"
    assert problems("  repeats: 3\n") == []


def test_every_column_has_a_name_of_its_own() -> None:
    entries = [
        "base",
        {"prompted": {"shots": 3}},
        {"prompted": {"shots": 3, "choose": "nearest"}},
        {"prompted": {"name": "curt"}},
        {"model": "org/bigger-model", "shots": 2},
        {"model": "elsewhere/tuned"},
        {"model": "models/small.gguf", "load_in_8bit": True},
        "tuned",
        {"tuned": {"load_in_4bit": True}},
        "merged",
        {"merged": {"load_in_4bit": True}},
    ]
    columns = columns_of(entries)
    assert [column.name for column in columns] == [
        "base",
        "prompted",
        "prompted-2",
        "curt",
        "bigger-model",
        "tuned-2",
        "small-8bit",
        "tuned",
        "tuned-4bit",
        "merged",
        "merged-4bit",
    ]
    assert [column.kind for column in columns][1:8] == ["prompted"] * 3 + ["model"] * 3 + ["tuned"]
    assert columns[4].options == {"model": "org/bigger-model", "shots": 2}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{shots: 3}", "'evaluation.compare.0' is no column: it names none"),
        ("{model: a/b, prompted: {}}", "it names 'prompted' and 'model', one of them is a column"),
        ("{prompted: {}, shots: 3}", "'shots' stands beside 'prompted' and has to be inside it"),
        ("{tuned: {load_in_4bit: true, load_in_8bit: true}}", "load_in_4bit and load_in_8bit are both set"),
        ("{tuned: {name: x}}", "the tuned model as it was trained is always the column 'tuned'"),
        ("{model: a/b, name: base}", "a column cannot be called 'base'"),
        ("{model: ./nowhere}", "model './nowhere' does not exist"),
        ("tunde", "expected one of: base, prompted, tuned, merged"),
        ("{prompted: {choose: nearst}}", "expected one of: random, nearest"),
        ("tuned", "the column 'tuned' is listed twice"),
    ],
)
def test_a_column_that_means_nothing_is_found(problems: Any, entry: str, message: str) -> None:
    found = problems(f"  compare: [{entry}, tuned]\n")
    assert message in found[0].message
    assert found[0].position is not None
    assert found[0].position.line == 6
