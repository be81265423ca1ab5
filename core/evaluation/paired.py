"""Two columns on the same items: the difference, its interval, a test, and how many items would show it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from core.evaluation.metrics import summed_up
from core.evaluation.statistics import (
    CONFIDENCE,
    bootstrap,
    bootstrap_mean,
    counts_of,
    holm,
    is_binary,
    items_needed,
    items_needed_binary,
    mcnemar,
    newcombe_paired,
    permutation,
    swaps,
)
from core.results import ColumnReport, MetricResult
from core.types import MetricPlan

LEVEL = 0.05


def compare(
    metric: MetricPlan,
    tuned: ColumnReport,
    other: ColumnReport,
    *,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    among: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Tuned against another column on the items both have a score for: difference, interval, p-value, outcome.
    Better or worse is what both say: the interval leaves out zero, and the p-value is below 0.05.

    The difference is tuned minus other. Right/wrong scores: Newcombe's interval and McNemar's exact test. Other means:
    bootstrap and sign flips. Figures that are no mean over the items (F1, BLEU, a median): the bootstrap of their
    difference, and the two columns' answers swapped at random. Fixed and broken count the items that tuning moved up
    and down. needed: how many items would show this difference with a power of 80 %, or None. among: positions.
    """
    mine, theirs = tuned.metrics[metric.name], other.metrics[metric.name]
    scored = zip(mine.scores, theirs.scores, strict=True)
    chosen = None if among is None else set(among)
    places = [
        place
        for place, (a, b) in enumerate(scored)
        if a is not None and b is not None and (chosen is None or place in chosen)
    ]
    first, second = ([result.scores[place] or 0.0 for place in places] for result in (mine, theirs))
    differences = [a - b for a, b in zip(first, second, strict=True)]
    if not _is_mean(metric, mine, first, places) or not _is_mean(metric, theirs, second, places):
        found = _of_summaries(metric, mine, theirs, places, seed, confidence)
    elif metric.evaluator.unit == "share" and is_binary([*first, *second]):
        found = _of_shares(first, second, confidence)
    else:
        found = _of_means(differences, seed, confidence)
    sign = 1 if metric.evaluator.higher_is_better else -1
    interval = found["interval"]
    outcome = "not_shown"
    # an interval of a handful of items is too sure of itself, whatever its method: the test must agree
    if interval is not None and found["p_value"] < LEVEL and (interval[0] > 0 or interval[1] < 0):
        outcome = "better" if sign * interval[0] > 0 else "worse"
    return {
        "metric": metric.name,
        "against": other.name,
        **found,
        "interval": list(interval) if interval else None,
        "outcome": outcome,
        "n": len(places),
        "fixed": sum(sign * difference > 0 for difference in differences),
        "broken": sum(sign * difference < 0 for difference in differences),
    }


def correct(family: Sequence[dict[str, Any]]) -> None:
    """Add `p_value_holm` to comparisons that are made together: the p-values corrected for their number (Holm). Only
    what stands after that is better or worse; one rule for verdict, slices and runs side by side."""
    corrected = holm([comparison["p_value"] for comparison in family])
    for comparison, value in zip(family, corrected, strict=True):
        comparison["p_value_holm"] = value
        if value >= LEVEL:
            comparison["outcome"] = "not_shown"


def comparable(metric: MetricPlan, tuned: ColumnReport, other: ColumnReport) -> bool:
    """Whether there is an item that both columns have a score for."""
    if metric.name not in tuned.metrics or metric.name not in other.metrics:
        return False
    scores = zip(tuned.metrics[metric.name].scores, other.metrics[metric.name].scores, strict=True)
    return any(a is not None and b is not None for a, b in scores)


def _is_mean(metric: MetricPlan, result: MetricResult, scores: Sequence[float], places: Sequence[int]) -> bool:
    """Whether the compared figure is the mean of the items' scores."""
    if metric.evaluator.summarise is None or len(result.items) != len(result.scores):
        return True
    value = summed_up(metric, [dict(result.items[place]) for place in places], result.options)
    return math.isclose(value, math.fsum(scores) / len(scores), rel_tol=1e-9, abs_tol=1e-12)


def _of_shares(first: Sequence[float], second: Sequence[float], confidence: float) -> dict[str, Any]:
    both, only_first, only_second, neither = counts_of(first, second)
    n = len(first)
    difference = (only_first - only_second) / n
    return {
        "difference": difference,
        "interval": newcombe_paired(both, only_first, only_second, neither, confidence),
        "p_value": mcnemar(only_first, only_second),
        "needed": items_needed_binary(difference, (only_first + only_second) / n),
    }


def _of_means(differences: Sequence[float], seed: int, confidence: float) -> dict[str, Any]:
    n = len(differences)
    mean = math.fsum(differences) / n
    deviation = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1)) if n > 1 else 0.0
    return {
        "difference": mean,
        "interval": bootstrap_mean(differences, seed=seed, confidence=confidence),
        "p_value": permutation(differences, seed=seed),
        "needed": items_needed(mean, deviation),
    }


def _of_summaries(
    metric: MetricPlan, mine: MetricResult, theirs: MetricResult, places: Sequence[int], seed: int, confidence: float
) -> dict[str, Any]:
    first = [dict(mine.items[place]) for place in places]
    second = [dict(theirs.items[place]) for place in places]

    def figure(rows: Sequence[dict[str, float]]) -> float:
        return summed_up(metric, rows, mine.options)

    def statistic(drawn: Sequence[int]) -> float:
        return figure([first[index] for index in drawn]) - figure([second[index] for index in drawn])

    def swapped(flags: Sequence[bool]) -> float:
        return figure([b if flag else a for a, b, flag in zip(first, second, flags, strict=True)]) - figure(
            [a if flag else b for a, b, flag in zip(first, second, flags, strict=True)]
        )

    n, difference = len(places), statistic(range(len(places)))
    interval = bootstrap(statistic, n, seed=seed, confidence=confidence)
    half = (interval[1] - interval[0]) / 2 if interval else 0.0
    return {
        "difference": difference,
        "interval": interval,
        "p_value": swaps(swapped, n, seed=seed),
        # the standard error that such an interval stands for, as a deviation per item
        "needed": items_needed(difference, half / 1.96 * math.sqrt(n)) if confidence == CONFIDENCE else None,
    }
