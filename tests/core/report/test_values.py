from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema

from core import load_fragment
from core.report.values import _finite, _metric, prediction_lines, without_secrets
from core.results import ColumnReport, EvalReport, MetricResult
from core.types import Evaluator
from tests.core.evaluation.making import exact, make_answer, make_items, make_metric
from tests.core.plans import make_test_data, make_test_plan


def test_the_example_fits_the_schema_of_run_json(values: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(load_fragment("run"))
    assert list(validator.iter_errors(values)) == []
    del values["verdict"]
    assert [error.message for error in validator.iter_errors(values)] == ["'verdict' is a required property"]


def test_secrets_are_masked_and_vocabulary_tokens_are_not() -> None:
    masked = without_secrets(
        {
            "hub_token": "hf_abc",
            "wandb_api_key": "k",
            "special_tokens": {"pad_token": "<pad>"},
            "secrets": ["A"],
            "nested": [{"db_password": "x"}],
        }
    )
    assert masked == {
        "hub_token": "***",
        "wandb_api_key": "***",
        "special_tokens": {"pad_token": "<pad>"},
        "secrets": "***",
        "nested": [{"db_password": "***"}],
    }


def test_numbers_that_json_cannot_hold_become_null() -> None:
    assert _finite({"a": [float("nan"), 1.0, float("inf")], "b": "nan"}) == {"a": [None, 1.0, None], "b": "nan"}


def test_no_timing_stands_among_the_predictions(tmp_path: Path, tiny_model: Path) -> None:
    timed = Evaluator("own_timing", lambda *_: {"own_timing": 1.0}, needs=("latency",))
    metrics = (make_metric(Evaluator("accuracy", exact)), make_metric(timed), make_metric(timed, name="own_timing-2"))
    plan = make_test_plan(tmp_path, tiny_model)
    plan = replace(plan, evaluation=replace(plan.evaluation, metrics=metrics))
    items = tuple(make_items("yes"))
    scored = {name: MetricResult(1.0, {}, None, [1.0], 1) for name in ("accuracy", "own_timing", "own_timing-2")}
    report = EvalReport({"tuned": ColumnReport("tuned", [make_answer("yes")], scored)})
    (line,) = prediction_lines(plan, replace(make_test_data(2), test=items), report)
    assert line["answers"]["tuned"]["scores"] == {"accuracy": 1.0}


def test_the_mark_that_metrics_looked_behind_is_kept(tmp_path: Path, tiny_model: Path) -> None:
    plan = make_test_plan(tmp_path, tiny_model)
    items = tuple(make_items("yes", "no"))
    assert not any(
        "thinking_ends" in line for line in prediction_lines(plan, replace(make_test_data(2), test=items), EvalReport())
    )
    thinking = (items[0], replace(items[1], thinking_ends="</think>"))
    lines = prediction_lines(plan, replace(make_test_data(2), test=thinking), EvalReport())
    assert [line["thinking_ends"] for line in lines] == ["</think>", "</think>"]


def test_the_seconds_of_timed_answers_are_kept_for_the_histogram() -> None:
    result = MetricResult(0.5, {"latency": 0.5}, None, [0.25, None, 0.75], 2)
    assert _metric(result, timed=True)["details"] == {"seconds": [0.25, 0.75]}
    assert "details" not in _metric(result, timed=False)
