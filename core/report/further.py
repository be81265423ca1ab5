"""What metrics say beside the figure that is compared: percentiles, other averages, why formats failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.report.figures import MISSING, column_label, figure

PLAIN = "tokens"  # a figure that begins so is a number, whatever the metric is measured in
LABELS = {"p95": "95th percentile", "first_token": "to the first token", "tokens_per_second": "tokens per second"}


def further_figures(values: Mapping[str, Any]) -> list[list[str]]:
    """A header, then a row per further figure with its value in every column; nothing where no metric has any."""
    rows = [row for metric in values["metrics"] for row in (*_summaries(values, metric), *_reasons(values, metric))]
    return [["", *(column_label(values, name) for name in values["evaluation"])], *rows] if rows else []


def _summaries(values: Mapping[str, Any], metric: str) -> Iterator[list[str]]:
    columns = [column.get(metric) or {} for column in values["evaluation"].values()]
    summaries = [column.get("summary") or {} for column in columns]
    reasons = {reason for column in columns for reason in column.get("details", {}).get("reasons", {})}
    unit = values["metrics"][metric]["unit"]
    for name in dict.fromkeys(name for summary in summaries for name in summary):
        shown = [summary.get(name) for summary in summaries]
        compared = all(
            value is None or value == column.get("value") for value, column in zip(shown, columns, strict=True)
        )
        if not compared and name not in reasons:
            own = "" if name.startswith(PLAIN) else unit
            yield [f"{_said(metric)}: {LABELS.get(name, _said(name))}", *(figure(value, own) for value in shown)]


def _reasons(values: Mapping[str, Any], metric: str) -> Iterator[list[str]]:
    """How often an answer failed, by reason."""
    counted = [(column.get(metric) or {}).get("details", {}).get("reasons") for column in values["evaluation"].values()]
    for reason in dict.fromkeys(reason for reasons in counted for reason in reasons or ()):
        cells = [MISSING if reasons is None else f"{reasons.get(reason, 0):,}" for reasons in counted]
        yield [f"{_said(metric)}: failed by {_said(reason)}", *cells]


def _said(name: str) -> str:
    return name.replace("_", " ")
