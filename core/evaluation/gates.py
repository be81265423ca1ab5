"""Gates: whether the tuned model reached what the recipe demands of it. They decide the exit code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.evaluation.paired import compare
from core.evaluation.repeated import mean_interval, repeated_difference, scores_table
from core.evaluation.statistics import CONFIDENCE, bootstrap_mean, is_binary, wilson
from core.results import ColumnReport, MetricResult, Repeat
from core.rounding import percent_of
from core.types import BEST_UNTUNED, GatePlan, MetricPlan, Plan

FAILED = 3


def judge_gates(
    plan: Plan, columns: Mapping[str, ColumnReport], repeats: Sequence[Repeat] = ()
) -> list[dict[str, Any]]:
    """Every gate of the recipe with its figures, JSON-ready (`gate` in schemas/run.json).

    repeats: every training, where there were several; what is judged of the tuned column is then the mean of all of
    them, with an interval in which items and trainings vary.

    What cannot be judged, because its column or metric has no figure, has not passed.
    """
    metrics = {metric.name: metric for metric in plan.evaluation.metrics}
    seed = plan.recipe["seed"] or 0
    return [_judge(plan, gate, metrics[gate.metric], columns, repeats, seed) for gate in plan.evaluation.gates]


def exit_code(gates: Sequence[Mapping[str, Any]]) -> int:
    """0 where every gate has passed, else 3."""
    return 0 if all(gate["passed"] for gate in gates) else FAILED


def _judge(
    plan: Plan,
    gate: GatePlan,
    metric: MetricPlan,
    columns: Mapping[str, ColumnReport],
    repeats: Sequence[Repeat],
    seed: int,
) -> dict[str, Any]:
    over = _best_untuned(plan, metric, columns) if gate.over == BEST_UNTUNED else gate.over
    values = {
        "metric": gate.metric,
        "column": gate.column,
        "rule": gate.rule,
        "bound": gate.bound,
        "over": over or gate.over,
        "confidence": gate.confidence,
        "found": None,
        "interval": None,
        "n": 0,
        "passed": False,
    }
    missing = _without_figure(metric, columns, [gate.column, *([over or BEST_UNTUNED] if gate.over else [])])
    if missing:
        return {**values, "words": f"{_name(gate)}: cannot be judged, {missing} has no figure"}
    trainings = repeats if gate.column == "tuned" and len(repeats) > 1 else ()
    if over is not None:
        values |= _gain(gate, metric, columns[gate.column], columns[over], trainings, seed)
    else:
        values |= _figure(gate, metric, columns[gate.column], trainings, seed)
    return {**values, "words": _words(gate, metric, values)}


def _best_untuned(plan: Plan, metric: MetricPlan, columns: Mapping[str, ColumnReport]) -> str | None:
    sign = 1 if metric.evaluator.higher_is_better else -1
    figures = {}
    for column in plan.evaluation.columns:
        found = columns[column.name].metrics.get(metric.name) if column.name in columns else None
        if column.kind in ("base", "prompted") and found is not None and found.value is not None:
            figures[column.name] = sign * found.value
    return max(figures, key=lambda name: figures[name]) if figures else None


def _without_figure(metric: MetricPlan, columns: Mapping[str, ColumnReport], names: Sequence[str]) -> str | None:
    for name in names:
        found = columns[name].metrics.get(metric.name) if name in columns else None
        if found is None or found.value is None:
            return f"the column {name!r}"
    return None


def _gain(
    gate: GatePlan,
    metric: MetricPlan,
    judged: ColumnReport,
    other: ColumnReport,
    repeats: Sequence[Repeat],
    seed: int,
) -> dict[str, Any]:
    """The gain in the direction that is better, with its interval."""
    sign = 1 if metric.evaluator.higher_is_better else -1
    confidence = gate.confidence or CONFIDENCE
    found = compare(metric, judged, other, seed=seed, confidence=confidence)
    if repeats:
        results = [repeat.column.metrics[metric.name] for repeat in repeats]
        found |= repeated_difference(metric, results, other.metrics[metric.name], confidence) or {}
    gain = sign * found["difference"]
    interval = sorted(sign * bound for bound in found["interval"]) if found["interval"] else None
    shown = interval if gate.confidence else None
    decisive = gain if not gate.confidence else (interval[0] if interval else None)
    return {
        "found": gain,
        "interval": shown,
        "n": found["n"],
        "passed": decisive is not None and decisive >= gate.bound,
    }


def _figure(
    gate: GatePlan, metric: MetricPlan, judged: ColumnReport, repeats: Sequence[Repeat], seed: int
) -> dict[str, Any]:
    result = judged.metrics[metric.name]
    found, interval = result.value, _interval(metric, result, gate.confidence, seed) if gate.confidence else None
    if repeats:
        found, interval = _over_trainings(metric, [one.column.metrics[metric.name] for one in repeats], gate, seed)
    low, high = (found, found) if not gate.confidence else interval or (None, None)
    decisive = low if gate.rule == "at_least" else high
    holds = decisive is not None and (decisive >= gate.bound if gate.rule == "at_least" else decisive <= gate.bound)
    return {
        "found": found,
        "interval": list(interval) if interval else None,
        "n": result.n,
        "passed": holds,
    }


def _over_trainings(
    metric: MetricPlan, results: Sequence[MetricResult], gate: GatePlan, seed: int
) -> tuple[float | None, tuple[float, float] | None]:
    """The mean of all trainings, and its interval; for a figure that is no mean over the items, the widest reach of the
    trainings' own intervals."""
    values = [result.value for result in results]
    if any(value is None for value in values):
        return None, None
    mean = math.fsum(value for value in values if value is not None) / len(values)
    if not gate.confidence:
        return mean, None
    if table := scores_table(metric, results):
        return mean, mean_interval(table, gate.confidence)[1]
    own = [_interval(metric, result, gate.confidence, seed) for result in results]
    known = [interval for interval in own if interval is not None]
    if len(known) < len(own):
        return mean, None
    return mean, (min(low for low, _ in known), max(high for _, high in known))


def _interval(metric: MetricPlan, result: MetricResult, confidence: float, seed: int) -> tuple[float, float] | None:
    """The figure's interval at `confidence`; for a figure that is no mean over the items, the one of the report."""
    if confidence == CONFIDENCE or metric.evaluator.summarise is not None:
        return result.interval if confidence <= CONFIDENCE else None
    scores = [score for score in result.scores if score is not None]
    if is_binary(scores):
        return wilson(round(sum(scores)), len(scores), confidence)
    return bootstrap_mean(scores, seed=seed, confidence=confidence)


# ---------------------------------------------------------------- words


def _words(gate: GatePlan, metric: MetricPlan, values: Mapping[str, Any]) -> str:
    unit = metric.evaluator.unit
    if values["found"] is None:
        return f"{_name(gate)}: cannot be judged, one of the trainings has no figure"
    text = f"{_name(gate)}: {'passed' if values['passed'] else 'failed'}, "
    if gate.rule == "min_gain":
        text += f"gain over {values['over']} {_say(values['found'], unit, signed=True)}"
    else:
        text += _say(values["found"], unit)
    if gate.confidence:
        percent = f"{100 * gate.confidence:g} %"
        if values["interval"]:
            low, high = (_say(bound, unit, signed=gate.rule == "min_gain") for bound in values["interval"])
            text += f" ({percent} interval {low.removesuffix(' points')} to {high})"
        else:
            text += f" (no {percent} interval with {values['n']} items)"
    demanded = "at most" if gate.rule == "at_most" else "at least"
    return f"{text}, {demanded} {_say(gate.bound, unit, signed=gate.rule == 'min_gain')} demanded"


def _name(gate: GatePlan) -> str:
    metric = gate.metric.replace("_", " ")
    return metric if gate.column == "tuned" else f"{metric} of {gate.column}"


def _say(value: float, unit: str, *, signed: bool = False) -> str:
    if unit == "share":
        return f"{percent_of(value, 1, signed=signed)}{' points' if signed else ' %'}"
    return f"{value:{'+' if signed else ''}.3g}{' s' if unit == 'seconds' else ''}"
