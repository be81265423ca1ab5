"""Figures over several trainings: their spread, and intervals in which items and trainings both vary.

Every item was answered after every training, so the scores form a table of items by seeds. Its mean varies because
other items could have been drawn, because other seeds could have been, and by their interplay. A two-way analysis of
variance with both as random effects takes the three apart; the degrees of freedom of their sum are Satterthwaite's
(Brennan, "Generalizability Theory", 2001; Satterthwaite, Biometrics Bulletin 2, 1946).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.evaluation.statistics import CONFIDENCE, is_binary, wilson
from core.results import ColumnReport, MetricResult, Repeat
from core.rounding import percent_of
from core.types import MetricPlan, Plan

Table = Sequence[Sequence[float]]  # a row per item, a column per seed


def repeats_values(plan: Plan, columns: Mapping[str, ColumnReport], repeats: Sequence[Repeat]) -> dict[str, Any] | None:
    """What run.json says under `repeats`; None for a single training."""
    if len(repeats) < 2:
        return None
    others = {name: column for name, column in columns.items() if name != "tuned"}
    return {
        "seeds": [repeat.seed for repeat in repeats],
        "metrics": {
            metric.name: _metric(metric, [repeat.column.metrics[metric.name] for repeat in repeats], others)
            for metric in plan.evaluation.metrics
            if all(metric.name in repeat.column.metrics for repeat in repeats)
        },
    }


def repeated_difference(
    metric: MetricPlan, tuned: Sequence[MetricResult], other: MetricResult, confidence: float = CONFIDENCE
) -> dict[str, Any] | None:
    """Mean of the trainings minus another column on the items that all of them scored, with its interval.

    None for figures that are no mean over the items, and where nothing is shared.
    """
    rows = scores_table(metric, [*tuned, other])
    if not rows:
        return None
    differences = [[value - row[-1] for value in row[:-1]] for row in rows]
    mean, interval = _interval(differences, confidence)
    return {"difference": mean, "interval": list(interval) if interval else None}


def mean_interval(table: Table, confidence: float = CONFIDENCE) -> tuple[float, tuple[float, float] | None]:
    """The mean of a table of scores and its interval; for right/wrong scores by Wilson's formula, with as many items as
    would vary as much."""
    flat = [value for row in table for value in row]
    mean = math.fsum(flat) / len(flat)
    if not is_binary(flat):
        return _interval(table, confidence)
    variance, freedom = variance_of_mean(table)
    if not 0 < mean < 1 or variance <= 0:
        # nothing varies: then only the number of items says how sure that is
        return mean, wilson(round(mean * len(table)), len(table), confidence)
    size = mean * (1 - mean) / variance
    t = _quantile(confidence, freedom)
    shrink = 1 + t * t / size
    centre = (mean + t * t / (2 * size)) / shrink
    half = t * math.sqrt(mean * (1 - mean) / size + t * t / (4 * size * size)) / shrink
    return mean, (max(0.0, centre - half), min(1.0, centre + half))


def variance_of_mean(table: Table) -> tuple[float, float]:
    """(variance of the table's mean, its degrees of freedom), items and seeds both drawn at random."""
    n, r = len(table), len(table[0])
    if n < 2 or r < 2:
        return 0.0, 1.0
    rows = [math.fsum(row) / r for row in table]
    columns = [math.fsum(row[j] for row in table) / n for j in range(r)]
    mean = math.fsum(rows) / n
    of_items = r * math.fsum((value - mean) ** 2 for value in rows) / (n - 1)
    of_seeds = n * math.fsum((value - mean) ** 2 for value in columns) / (r - 1)
    rest = math.fsum((table[i][j] - rows[i] - columns[j] + mean) ** 2 for i in range(n) for j in range(r)) / (
        (n - 1) * (r - 1)
    )
    parts = [(of_items, n - 1)]
    if of_seeds > rest:  # less than by chance alone counts as none
        parts += [(of_seeds, r - 1), (-rest, (n - 1) * (r - 1))]
    total = math.fsum(part for part, _ in parts)
    spread = math.fsum(part * part / freedom for part, freedom in parts)
    return total / (n * r), (total * total / spread if spread else 1.0)


def with_repeats(verdict: Mapping[str, Any], repeats: Mapping[str, Any] | None, unit: str = "") -> dict[str, Any]:
    """The verdict with what the further trainings say: a difference that they do not bear out is not shown.

    unit: of the metric that decided.
    """
    metric, against = verdict.get("metric"), verdict.get("against")
    if repeats is None or metric is None or metric not in repeats["metrics"]:
        return dict(verdict)
    found = repeats["metrics"][metric]
    difference = found["differences"].get(against)
    count, values = len(repeats["seeds"]), [value for value in found["values"] if value is not None]
    low, high = (f"{percent_of(end, 1)} %" if unit == "share" else f"{end:.3g}" for end in (min(values), max(values)))
    told = f"{count} trainings: {metric.replace('_', ' ')} from {low} to {high}"
    caveats = [f"{told}; the intervals under repeats include the variance of training"]
    outcome, words = verdict["outcome"], verdict["words"]
    interval = difference["interval"] if difference else None
    if outcome in ("better", "worse") and interval is not None and not _bear_out(verdict, interval):
        outcome = "not_shown"
        words = f"Not shown over {count} trainings. By the first one alone: {words}"
    elif interval is not None:
        words = f"{words} Over {count} trainings the difference holds." if outcome != "not_shown" else words
    return {**verdict, "outcome": outcome, "words": words, "caveats": caveats}


def _bear_out(verdict: Mapping[str, Any], interval: Sequence[float]) -> bool:
    """Whether the interval over all trainings lies where the difference of the first one does."""
    compared = verdict.get("comparisons", ())
    keys = ("metric", "against")
    first = next((one for one in compared if all(one[key] == verdict[key] for key in keys)), None)
    down = first is not None and first["difference"] < 0
    return interval[1] < 0 if down else interval[0] > 0


def _metric(metric: MetricPlan, results: Sequence[MetricResult], others: Mapping[str, ColumnReport]) -> dict[str, Any]:
    values = [result.value for result in results]
    known = [value for value in values if value is not None]
    mean = math.fsum(known) / len(known) if known else None
    deviation = None
    if mean is not None and len(known) > 1:
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))
    table = scores_table(metric, results)
    interval = mean_interval(table)[1] if table else None
    differences = {}
    for name, column in others.items():
        if metric.name in column.metrics:
            found = repeated_difference(metric, results, column.metrics[metric.name])
            if found is not None:
                differences[name] = found
    return {
        "values": values,
        "mean": mean,
        "deviation": deviation,
        "interval": list(interval) if interval else None,
        "differences": differences,
    }


def scores_table(metric: MetricPlan, results: Sequence[MetricResult]) -> list[list[float]]:
    """The scores of the items that all results have one for; empty where the figure is no mean of them."""
    if metric.evaluator.summarise is not None and not all(_is_mean(result) for result in results):
        return []
    rows = zip(*(result.scores for result in results), strict=True)
    return [[value for value in row if value is not None] for row in rows if all(value is not None for value in row)]


def _is_mean(result: MetricResult) -> bool:
    known = [score for score in result.scores if score is not None]
    return bool(known) and result.value is not None and math.isclose(result.value, math.fsum(known) / len(known))


def _interval(table: Table, confidence: float) -> tuple[float, tuple[float, float] | None]:
    flat = [value for row in table for value in row]
    mean = math.fsum(flat) / len(flat)
    variance, freedom = variance_of_mean(table)
    if variance <= 0:
        return mean, None
    half = _quantile(confidence, freedom) * math.sqrt(variance)
    return mean, (mean - half, mean + half)


def _quantile(confidence: float, freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence / 2, freedom))
