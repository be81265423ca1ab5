"""Scoring: one metric over one column's answers, its summary and its interval. Never calls the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.errors import DataError, RowError, UserError
from core.evaluation.slices import Slices
from core.evaluation.statistics import bootstrap, bootstrap_mean, interval_of
from core.results import Generation, MetricResult, SliceResult
from core.types import Item, MetricPlan, Options

Facts = Mapping[str, Mapping[int, Mapping[str, float]]]
SHOWN_ITEMS = 10


class ScoringError(UserError):
    """A metric failed. scored: what the metrics before it gave; begun: the figures of the items before the failure."""

    def __init__(self, error: UserError, scored: Mapping[str, MetricResult], begun: Sequence[Mapping[str, float]]):
        super().__init__(error.message, help=error.help)
        self.scored = dict(scored)
        self.begun = list(begun)


def ready_metrics(metrics: Sequence[MetricPlan], items: Sequence[Item]) -> tuple[MetricPlan, ...]:
    """`metrics` with their options completed from the items. Call it before anything is generated.

    Raises `DataError` naming every item (the first ten by place) that a metric could not score.
    """
    refusals = [line for metric in metrics for line in _refusals(metric, items)]
    if refusals:
        messages, helps = [message for message, _ in refusals], [help for _, help in refusals if help]
        raise DataError("\n".join(messages), help="; ".join(dict.fromkeys(helps)) or None)
    return tuple(
        replace(metric, options=metric.evaluator.complete(items, metric.options))
        if metric.evaluator.complete and items
        else metric
        for metric in metrics
    )


def _refusals(metric: MetricPlan, items: Sequence[Item]) -> list[tuple[str, str]]:
    """One message, with its help, if there are items that the metric could not score."""
    if metric.evaluator.check is None:
        return []
    bad: list[str] = []
    help = ""
    for item in items:
        try:
            metric.evaluator.check(item, metric.options)
        except (RowError, ValueError, KeyError) as error:
            bad.append(f"{item.place}: {_message(error)}")
            help = help or getattr(error, "help", None) or "correct these rows, or the options of this metric"
    if not bad:
        return []
    more = f"\n  and {len(bad) - SHOWN_ITEMS} more" if len(bad) > SHOWN_ITEMS else ""
    lines = "".join(f"\n  {line}" for line in bad[:SHOWN_ITEMS])
    return [(f"{_called(metric)} cannot score {len(bad)} of {len(items)} items:{lines}{more}", help)]


def score_column(
    metrics: Sequence[MetricPlan],
    generations: Sequence[Generation],
    items: Sequence[Item],
    facts: Facts,
    *,
    seed: int,
    slices: Slices | None = None,
) -> dict[str, MetricResult]:
    """Every metric over the column. facts: what core measured, by kind ("latency", ...) and position in `items`.

    A metric sees the facts it names in `needs` and no others; facts measured for it alone stand under "kind:metric".

    Raises `ScoringError` naming the metric (and the item, while it scores one) where it raises or returns something
    that is no finite number.
    """
    results: dict[str, MetricResult] = {}
    for metric in metrics:
        seen = _with_facts(items, facts, metric)
        begun: list[dict[str, float]] = []
        try:
            results[metric.name] = _score(metric, generations, seen, seed, slices or {}, begun)
        except UserError as error:
            raise ScoringError(error, results, begun) from error
    return results


def score(
    metric: MetricPlan,
    generations: Sequence[Generation],
    items: Sequence[Item],
    *,
    seed: int,
    slices: Slices | None = None,
) -> MetricResult:
    """One metric over the answers to `items`; items for which it returns nothing are left out of the figures."""
    return _score(metric, generations, items, seed, slices or {}, [])


def figure(
    metric: MetricPlan, scored: Sequence[Mapping[str, float]], *, seed: int
) -> tuple[float | None, tuple[float, float] | None, dict[str, float]]:
    """The compared figure of some items, its 95 % interval, and all figures; `scored` without empty ones."""
    present = [dict(scores) for scores in scored]
    if not present:
        return None, None, {}
    key = compared_key(metric, present)
    summary = _summarise(metric, present)
    compared = key if key in summary else next(iter(summary), None)
    if compared is None:
        return None, None, summary
    if metric.evaluator.summarise is None:
        values = [scores[key] for scores in present if key in scores]
        # 0 and 1 are right and wrong only where the figure is a share
        share = metric.evaluator.unit == "share"
        interval = interval_of(values, seed=seed) if share else bootstrap_mean(values, seed=seed)
    elif metric.evaluator.unit == "share" and _is_mean(present, key, summary[compared]):
        interval = interval_of([scores[key] for scores in present], seed=seed)
    else:
        interval = bootstrap(
            lambda drawn: _summarise(metric, [present[index] for index in drawn])[compared], len(present), seed=seed
        )
    return summary[compared], interval, summary


def compared_key(metric: MetricPlan, present: Sequence[Mapping[str, float]]) -> str:
    """The key of an item's figures that is compared."""
    return metric.evaluator.name if metric.evaluator.name in present[0] else next(iter(present[0]))


def _is_mean(present: Sequence[Mapping[str, float]], key: str, value: float) -> bool:
    """Whether a figure is the share of right answers, though summed up by the metric itself: Wilson's interval fits."""
    values = [scores.get(key) for scores in present]
    return all(score in (0.0, 1.0) for score in values) and math.isclose(
        value, sum(score or 0.0 for score in values) / len(values), abs_tol=1e-12
    )


def _score(
    metric: MetricPlan,
    generations: Sequence[Generation],
    items: Sequence[Item],
    seed: int,
    slices: Slices,
    begun: list[dict[str, float]],
) -> MetricResult:
    items = with_thinking_ends(items)
    for answer, item in zip(generations, items, strict=True):
        begun.append(_score_item(metric, answer, item))
    present = [scores for scores in begun if scores]
    value, interval, summary = figure(metric, present, seed=seed)
    key = compared_key(metric, present) if present else metric.evaluator.name
    return MetricResult(
        value=value,
        summary=summary,
        interval=interval,
        scores=[scores.get(key) for scores in begun],
        n=len(present),
        items=[dict(scores) for scores in begun],
        details=_details(metric, generations, items) if present else {},
        options=metric.options,
        slices={
            field: {name: _slice(metric, [begun[index] for index in places], seed) for name, places in parts.items()}
            for field, parts in slices.items()
        },
    )


def _slice(metric: MetricPlan, scored: Sequence[Mapping[str, float]], seed: int) -> SliceResult:
    present = [scores for scores in scored if scores]
    value, interval, _ = figure(metric, present, seed=seed)
    return SliceResult(value, interval, len(present))


def _with_facts(items: Sequence[Item], facts: Facts, metric: MetricPlan) -> list[Item]:
    needs = metric.evaluator.needs
    measured = [facts.get(f"{need}:{metric.name}", facts.get(need, {})) for need in needs]
    return [
        replace(item, facts={name: value for kind in measured for name, value in kind.get(position, {}).items()})
        for position, item in enumerate(items)
    ]


def _score_item(metric: MetricPlan, answer: Generation, item: Item) -> dict[str, float]:
    try:
        scores = metric.evaluator.score(said(answer.text, item), item, metric.options)
    except Exception as error:
        field = getattr(error, "field", None)
        if isinstance(error, KeyError) and error.args and error.args[0] not in item.row:
            field = error.args[0]
        named = f", field {field!r}" if isinstance(field, str) else ""
        raise UserError(
            f"{_called(metric)} failed on the item at {item.place}{named}: {type(error).__name__}: {_message(error)}",
            help=f"the answer was {_short(answer.text)}; check the row and the options of this metric in the recipe",
        ) from error
    if not isinstance(scores, Mapping):
        raise _not_a_number(metric, item, scores)
    for name, value in scores.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise _not_a_number(metric, item, {name: value})
    return {str(name): float(value) for name, value in scores.items()}


def with_thinking_ends(items: Sequence[Item]) -> Sequence[Item]:
    """`items`, each with the mark that ends thinking where any has one: a model that has learnt to think does so where
    the row does not, too."""
    mark = next((item.thinking_ends for item in items if item.thinking_ends), "")
    return [replace(item, thinking_ends=item.thinking_ends or mark) for item in items] if mark else items


def said(text: str, item: Item) -> str:
    """What a model answered, without what it thought before; all of its text where it did not come to an end of it."""
    if not item.thinking_ends or item.thinking_ends not in text:
        return text
    return text.rpartition(item.thinking_ends)[2].lstrip()


def _details(metric: MetricPlan, generations: Sequence[Generation], items: Sequence[Item]) -> dict[str, Any]:
    if metric.evaluator.details is None:
        return {}
    try:
        texts = [said(answer.text, item) for answer, item in zip(generations, items, strict=True)]
        return dict(metric.evaluator.details(texts, items, metric.options))
    except Exception as error:
        raise UserError(
            f"{_called(metric)} cannot give the details of {len(items)} answers: {type(error).__name__}: {error}",
            help=f"this is a fault of the plugin that brings {metric.evaluator.name!r}",
        ) from error


def summed_up(metric: MetricPlan, present: Sequence[dict[str, float]], options: Options | None = None) -> float:
    """The compared figure of the items whose figures are `present` (none of them empty). options: as completed."""
    summary = _summarise(replace(metric, options=options) if options else metric, present)
    key = compared_key(metric, present)
    return summary[key] if key in summary else next(iter(summary.values()))


def _summarise(metric: MetricPlan, present: Sequence[dict[str, float]]) -> dict[str, float]:
    if metric.evaluator.summarise is not None:
        return _own_summary(metric, present, metric.options)
    names = list(dict.fromkeys(name for scores in present for name in scores))
    columns = {name: [scores[name] for scores in present if name in scores] for name in names}
    return {name: math.fsum(values) / len(values) for name, values in columns.items()}


def _own_summary(metric: MetricPlan, present: Sequence[dict[str, float]], options: Options) -> dict[str, float]:
    assert metric.evaluator.summarise is not None
    try:
        summary = {str(name): float(value) for name, value in metric.evaluator.summarise(present, options).items()}
    except Exception as error:
        raise UserError(
            f"{_called(metric)} cannot sum up {len(present)} scores: {type(error).__name__}: {error}",
            help=f"this is a fault of the plugin that brings {metric.evaluator.name!r}",
        ) from error
    for name, value in summary.items():
        if not math.isfinite(value):
            raise UserError(
                f"{_called(metric)} sums up {len(present)} scores to {name} {value}, not a finite number",
                help=f"this is a fault of the plugin that brings {metric.evaluator.name!r}",
            )
    return summary


def _not_a_number(metric: MetricPlan, item: Item, value: object) -> UserError:
    return UserError(
        f"{_called(metric)} returned {_short(repr(value))} for the item at {item.place}, "
        "not a map of names to finite numbers",
        help=f"this is a fault of the plugin that brings {metric.evaluator.name!r}",
    )


def _called(metric: MetricPlan) -> str:
    foreign = metric.plugin and not metric.plugin.startswith("plugins.")
    return f"the metric {metric.name!r}" + (f" of the plugin {metric.plugin!r}" if foreign else "")


def _message(error: Exception) -> str:
    if isinstance(error, KeyError) and error.args:
        return f"there is no field {error.args[0]!r}"
    return str(getattr(error, "message", None) or error)


def _short(text: str, limit: int = 200) -> str:
    return repr(text if len(text) <= limit else text[:limit] + " …")
