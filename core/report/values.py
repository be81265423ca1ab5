"""The content of `run.json`: every figure of the run, plain and JSON-ready. Its schema is schemas/run.json."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from core.results import ColumnReport, EvalReport, MetricResult, TrainResult
from core.secrets import masked, without_secrets
from core.sharing.variables import hide
from core.types import Data, Plan

FORMAT_VERSION = 1


def run_values(
    plan: Plan,
    data: Data,
    report: EvalReport,
    trained: TrainResult,
    *,
    environment: Mapping[str, Any],
    verdict: Mapping[str, Any],
    baselines: Mapping[str, Any],
    seconds: float,
    gates: Sequence[Mapping[str, Any]] = (),
    scored: Mapping[str, Any] | None = None,
    repeats: Mapping[str, Any] | None = None,
    slices: Mapping[str, Any] | None = None,
    forgetting: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All figures of a run. `evaluation.<column>.<metric>.value` holds the compared figure of each metric.

    seconds: wall time of the whole run. Numbers that JSON cannot hold (NaN, infinity) become null.
    """
    from core import __version__

    timed = _timed(plan)
    values = {
        "format_version": FORMAT_VERSION,
        "tunesmith": __version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": {
            "path": str(plan.recipe.path),
            "values": without_secrets(plan.recipe.written_values()),
            "defaults": without_secrets(plan.recipe.defaults),
        },
        "base_model": masked(str(plan.recipe.written.get(("base_model",), plan.recipe["base_model"]))),
        "adapter": plan.adapter.name,
        "trainer": plan.trainer.name,
        "environment": dict(environment),
        "data": hide(dict(data.stats), plan.recipe),
        "parameters": {"trained": trained.parameters_trained, "total": trained.parameters_total},
        "train": {
            "losses": list(trained.losses),
            "steps": trained.steps,
            "seconds": trained.seconds,
            "tokens": trained.tokens,
            "stopped": trained.stopped,
            "earlier_seconds": trained.earlier_seconds,
            "history": [dict(record) for record in trained.history],
            **({"generation": dict(trained.generation)} if trained.generation else {}),
            **({"best": dict(trained.best)} if trained.best else {}),
            **(
                {"streamed": hide([dict(entry) for entry in trained.streamed], plan.recipe)} if trained.streamed else {}
            ),
        },
        "memory": {"peak_bytes": trained.peak_bytes},
        **({"plan": dict(trained.plan)} if trained.plan else {}),
        "evaluation": {
            name: {metric: _metric(result, timed=metric in timed) for metric, result in column.metrics.items()}
            for name, column in report.columns.items()
        },
        "metrics": {
            metric.name: {"unit": metric.evaluator.unit, "higher_is_better": metric.evaluator.higher_is_better}
            for metric in plan.evaluation.metrics
        },
        "columns": {name: hide(dict(column.facts), plan.recipe) for name, column in report.columns.items()},
        "items": len(data.test),
        "baselines": dict(baselines),
        "verdict": dict(verdict),
        "gates": [dict(gate) for gate in gates],
        "seconds": seconds,
        **({"scored": dict(scored)} if scored else {}),
        **({"repeats": dict(repeats)} if repeats else {}),
        **({"slices": hide(dict(slices), plan.recipe)} if slices else {}),
        **({"forgetting": dict(forgetting)} if forgetting else {}),
    }
    return dict(_finite(values))


def prediction_lines(plan: Plan, data: Data, report: EvalReport) -> list[dict[str, Any]]:
    """One record per held-out item: place, prompt, references, and each column's answer with its scores. No timings,
    so that the same answers give the same lines whatever the number of processes. thinking_ends: the mark behind which
    metrics looked, where models think."""
    from core.evaluation.metrics import with_thinking_ends

    timed = _timed(plan)
    return [
        {
            "index": item.index,
            "place": hide(item.place, plan.recipe),
            "prompt": item.prompt,
            "references": list(item.references),
            **({"thinking_ends": item.thinking_ends} if item.thinking_ends else {}),
            "answers": {name: _answer(column, position, timed) for name, column in report.columns.items()},
        }
        for position, item in enumerate(with_thinking_ends(data.test))
    ]


def _timed(plan: Plan) -> set[str]:
    return {metric.name for metric in plan.evaluation.metrics if "latency" in metric.evaluator.needs}


def _metric(result: MetricResult, *, timed: bool) -> dict[str, Any]:
    details = dict(result.details)
    if timed:
        details["seconds"] = [round(score, 4) for score in result.scores if score is not None]
    return {
        "value": result.value,
        "interval": list(result.interval) if result.interval else None,
        "n": result.n,
        "summary": dict(result.summary),
        **({"details": details} if details else {}),
    }


def _answer(column: ColumnReport, position: int, timed: Collection[str]) -> dict[str, Any]:
    generation = column.generations[position]
    return {
        "text": generation.text,
        "tokens": generation.tokens,
        "stopped": generation.stopped,
        "scores": {name: result.scores[position] for name, result in column.metrics.items() if name not in timed},
    }


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(entry) for entry in value]
    return value
