"""One run's column as it was scored, read back from its files: what two runs are compared by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.comparison.runs import FinishedRun, Line
from core.errors import RowError
from core.evaluation.metrics import compared_key, figure, said
from core.evaluation.statistics import interval_of
from core.host import Host
from core.results import ColumnReport, MetricResult
from core.types import Evaluator, Item, MetricPlan


def column_of(
    run: FinishedRun, lines: Sequence[Line], metrics: Mapping[str, MetricPlan], *, whole: bool
) -> ColumnReport:
    """The column of `run` on `lines`. whole: these are all of the run's items, so that its own figures stand."""
    results = {}
    for name, metric in metrics.items():
        given = run.values["evaluation"][run.column][name]
        scores = [line["answers"][run.column]["scores"].get(name) for line in lines]
        known = [score for score in scores if score is not None]
        again, options = _scored_again(metric, lines, run.column, scores)
        if whole or not known:
            interval = tuple(given["interval"]) if given["interval"] else None
            result = MetricResult(given["value"], given["summary"], interval, scores, given["n"], again, {}, options)
        elif again:
            value, interval, summary = figure(replace(metric, options=options), [one for one in again if one], seed=0)
            result = MetricResult(value, summary, interval, scores, len(known), again, {}, options)
        else:
            # over fewer items than the run had, only a mean can be taken again
            mean = math.fsum(known) / len(known) if metric.evaluator.summarise is None else None
            result = MetricResult(mean, {}, interval_of(known) if mean is not None else None, scores, len(known))
        results[name] = result
    return ColumnReport(run.name, (), results)


def metric_plan(name: str, about: Mapping[str, Any], host: Host) -> MetricPlan:
    """The metric as the runs' recipes name it; one that nothing installed knows is taken for a mean of its scores."""
    known = host.evaluators.get(about["type"])
    nothing: Any = None
    evaluator = known or Evaluator(name, nothing, higher_is_better=about["higher_is_better"], unit=about["unit"])
    written = {key: value for key, value in about.items() if key not in ("type", "unit", "higher_is_better")}
    schema: Mapping[str, Any] = evaluator.options_schema or {}
    defaults = {key: one["default"] for key, one in schema.items() if "default" in one}
    return MetricPlan(name, evaluator, {**defaults, **written})


def testable(metric: MetricPlan, one: ColumnReport, other: ColumnReport) -> bool:
    """Whether the difference of the figures can be tested: they are means of the items' scores, or what they are summed
    up from is known."""
    return all(
        bool(result.items) or _is_mean_of_scores(result) or metric.evaluator.summarise is None
        for result in (one.metrics[metric.name], other.metrics[metric.name])
    )


def _is_mean_of_scores(result: MetricResult) -> bool:
    known = [score for score in result.scores if score is not None]
    return bool(known) and result.value is not None and math.isclose(result.value, math.fsum(known) / len(known))


def _scored_again(
    metric: MetricPlan, lines: Sequence[Line], column: str, scores: Sequence[float | None]
) -> tuple[Sequence[Mapping[str, float]], Mapping[str, Any]]:
    """All figures of each item, from its answer, for a metric that sums them up in its own way; and its options.

    Nothing where that needs more than prompt, answer and reference, or gives other scores than the run had.
    """
    evaluator = metric.evaluator
    if evaluator.summarise is None or evaluator.needs:
        return (), {}
    items = [_item(line) for line in lines]
    try:
        options = evaluator.complete(items, metric.options) if evaluator.complete else metric.options
        found = [
            dict(evaluator.score(said(line["answers"][column]["text"], item), item, options))
            for line, item in zip(lines, items, strict=True)
        ]
    except (RowError, LookupError, TypeError, ValueError):  # it reads the row, which is not kept
        return (), {}
    same = all(
        score is None if not one else score is not None and math.isclose(one[compared_key(metric, [one])], score)
        for one, score in zip(found, scores, strict=True)
    )
    return (found, options) if same else ((), {})


def _item(line: Line) -> Item:
    """The item of a record, as far as it is kept."""
    mark = line.get("thinking_ends", "")
    return Item(line["index"], {}, line["prompt"], tuple(line["references"]), line["place"], thinking_ends=mark)
