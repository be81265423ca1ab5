"""Scoring: one metric over one column's answers, its summary and its interval. Never calls the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from core.errors import UserError
from core.evaluation.statistics import bootstrap, interval_of
from core.results import Generation, MetricResult
from core.types import Item, MetricPlan, Options

Facts = Mapping[str, Mapping[int, Mapping[str, float]]]
Summarise = Callable[[Sequence[dict[str, float]], Options], dict[str, float]]


def score_column(
    metrics: Sequence[MetricPlan], generations: Sequence[Generation], items: Sequence[Item], facts: Facts, *, seed: int
) -> dict[str, MetricResult]:
    """Every metric over the column. facts: what core measured, by kind ("latency", ...) and position in `items`.

    A metric sees the facts it names in `needs` and no others.

    Raises `UserError` naming the metric (and the item, while it scores one) where it raises or returns something that
    is no finite number.
    """
    return {
        metric.name: score(metric, generations, _with_facts(items, facts, metric.evaluator.needs), seed=seed)
        for metric in metrics
    }


def _with_facts(items: Sequence[Item], facts: Facts, needs: Sequence[str]) -> list[Item]:
    measured = [facts.get(need, {}) for need in needs]
    return [
        replace(item, facts={name: value for kind in measured for name, value in kind.get(position, {}).items()})
        for position, item in enumerate(items)
    ]


def score(metric: MetricPlan, generations: Sequence[Generation], items: Sequence[Item], *, seed: int) -> MetricResult:
    """One metric over the answers to `items`; items for which it returns nothing are left out of the figures."""
    per_item = [_score_item(metric, answer, item) for answer, item in zip(generations, items, strict=True)]
    present = [scores for scores in per_item if scores]
    if not present:
        return MetricResult(value=None, summary={}, interval=None, scores=[None] * len(items), n=0)
    key = metric.evaluator.name if metric.evaluator.name in present[0] else next(iter(present[0]))
    summary = _summarise(metric, present)
    compared = key if key in summary else next(iter(summary), None)
    if metric.evaluator.summarise is None:
        interval = interval_of([scores[key] for scores in present if key in scores], seed=seed)
    elif compared is None:
        interval = None
    else:
        interval = bootstrap(
            lambda drawn: _summarise(metric, [present[index] for index in drawn])[compared], len(present), seed=seed
        )
    return MetricResult(
        value=summary[compared] if compared is not None else None,
        summary=summary,
        interval=interval,
        scores=[scores.get(key) for scores in per_item],
        n=len(present),
    )


def _score_item(metric: MetricPlan, answer: Generation, item: Item) -> dict[str, float]:
    try:
        scores = metric.evaluator.score(answer.text, item, metric.options)
    except Exception as error:
        raise UserError(
            f"the metric {metric.name!r} failed on the item at {item.place}: {type(error).__name__}: {error}",
            help=f"the answer was {_short(answer.text)}; check the row and the options of this metric in the recipe",
        ) from error
    if not isinstance(scores, Mapping):
        raise _not_a_number(metric, item, scores)
    for name, value in scores.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise _not_a_number(metric, item, {name: value})
    return {str(name): float(value) for name, value in scores.items()}


def _summarise(metric: MetricPlan, present: Sequence[dict[str, float]]) -> dict[str, float]:
    if metric.evaluator.summarise is not None:
        return _own_summary(metric, metric.evaluator.summarise, present)
    names = list(dict.fromkeys(name for scores in present for name in scores))
    columns = {name: [scores[name] for scores in present if name in scores] for name in names}
    return {name: math.fsum(values) / len(values) for name, values in columns.items()}


def _own_summary(metric: MetricPlan, summarise: Summarise, present: Sequence[dict[str, float]]) -> dict[str, float]:
    try:
        summary = {str(name): float(value) for name, value in summarise(present, metric.options).items()}
    except Exception as error:
        raise UserError(
            f"the metric {metric.name!r} cannot sum up {len(present)} scores: {type(error).__name__}: {error}",
            help=f"this is a fault of the plugin that brings {metric.evaluator.name!r}",
        ) from error
    for name, value in summary.items():
        if not math.isfinite(value):
            raise UserError(
                f"the metric {metric.name!r} sums up {len(present)} scores to {name} {value}, not a finite number",
                help=f"this is a fault of the plugin that brings {metric.evaluator.name!r}",
            )
    return summary


def _not_a_number(metric: MetricPlan, item: Item, value: object) -> UserError:
    return UserError(
        f"the metric {metric.name!r} returned {_short(repr(value))} for the item at {item.place}, "
        "not a map of names to finite numbers",
        help=f"this is a fault of the plugin that brings {metric.evaluator.name!r}",
    )


def _short(text: str, limit: int = 200) -> str:
    return repr(text if len(text) <= limit else text[:limit] + " …")
