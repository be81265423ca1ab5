"""The sentences of the verdict, one rule each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.results import ColumnReport
from core.rounding import percent_of
from core.types import MetricPlan, Plan

TUNED = "tuned"
MANY_ITEMS = 1_000_000  # beyond this, "how many would be needed" is no advice
NAMED_SLICES = 3


def say_verdict(
    plan: Plan,
    metric: MetricPlan,
    columns: Mapping[str, ColumnReport],
    best: str,
    chosen: Mapping[str, Any],
    *,
    others: Sequence[Mapping[str, Any]] = (),
    worse: Sequence[Mapping[str, Any]] = (),
    forgetting: Mapping[str, Any] | None = None,
    gates: Sequence[Mapping[str, Any]] = (),
    trained_on: int = 0,
) -> str:
    """The verdict in words. chosen: the comparison that decides; others: those of the other metrics with `best`;
    worse: the slices on which tuning is shown to be worse; trained_on: how many held-out items were trained on."""
    opening = {
        "better": "Fine-tuning is worth it",
        "worse": "Fine-tuning made it worse",
        "not_shown": f"Not shown with {chosen['n']} item{'s' * (chosen['n'] != 1)} that fine-tuning helps",
    }[chosen["outcome"]]
    start = "base" if "base" in columns else best
    tuned = columns[TUNED].metrics[metric.name]
    text = f"{opening}: {_say_name(metric.name)} {_figure(metric, columns[start], start)} → {_say(metric, tuned.value)}"
    if tuned.interval is not None:
        text += f" (95 % CI {_range(metric, tuned.interval)})"
    if start != "prompted" and "prompted" in columns:
        text += f"; prompting alone reaches {_say(metric, columns['prompted'].metrics[metric.name].value)}"
    if chosen["interval"] is not None:
        low, high = chosen["interval"]
        text += f"; difference to {_column(best)} {_points(metric, low, high)}{_test_mark(chosen)}"
    parts = [text, *_needed(metric, chosen)]
    for other in plan.evaluation.metrics:
        figure = columns[TUNED].metrics.get(other.name)
        judged = other.evaluator.unit == "share" and set(other.evaluator.needs) <= {"choices"}
        if other.name != metric.name and judged and figure is not None and figure.value is not None:
            parts.append(f"{_say_name(other.name)} {_say(other, figure.value)}" + _worse_mark(other, others))
    if trained_on:
        items = "1 held-out item was" if trained_on == 1 else f"{trained_on} held-out items were"
        parts.append(f"but {items} trained on, and prove nothing")
    parts += [*_slices(worse), *say_beside(forgetting, gates)]
    return "; ".join(parts) + "."


def say_undecided(words: str, forgetting: Mapping[str, Any] | None, gates: Sequence[Mapping[str, Any]]) -> str:
    """A verdict that is none, with what can be said all the same."""
    beside = "; ".join(say_beside(forgetting, gates))
    return f"{words} {beside[0].upper()}{beside[1:]}." if beside else words


def say_beside(forgetting: Mapping[str, Any] | None, gates: Sequence[Mapping[str, Any]]) -> list[str]:
    """What stands beside the gain: forgetting, and gates that failed."""
    said = [forgetting["words"]] if forgetting else []
    failed = [gate for gate in gates if not gate["passed"]]
    if failed:
        said.append(f"{len(failed)} of {len(gates)} gates failed" if len(gates) > 1 else "the gate failed")
    return said


def _test_mark(chosen: Mapping[str, Any]) -> str:
    """What stands against an interval that leaves out zero, where it is not enough."""
    low, high = chosen["interval"]
    if chosen["outcome"] != "not_shown" or low <= 0 <= high:
        return ""
    value, corrected = chosen["p_value"], chosen["p_value_holm"]
    more = f", {corrected:.2g} corrected for the number of metrics" if corrected > value else ""
    return f", which the paired test does not bear out (p = {value:.2g}{more})"


def _needed(metric: MetricPlan, chosen: Mapping[str, Any]) -> list[str]:
    """How many items would show the gain that was seen, where it was not shown."""
    sign = 1 if metric.evaluator.higher_is_better else -1
    needed = chosen.get("needed")
    if chosen["outcome"] != "not_shown" or needed is None or sign * chosen["difference"] <= 0 or needed <= chosen["n"]:
        return []
    if needed > MANY_ITEMS:
        return [f"more than {MANY_ITEMS:,} items would be needed to show a gain so small"]
    return [f"about {_rounded(needed):,} items would be needed to show a gain of this size"]


def _rounded(count: int) -> int:
    """Two digits: more would claim a precision that the estimate lacks."""
    digits = max(len(str(count)) - 2, 0)
    return int(-(-count // 10**digits) * 10**digits)


def _worse_mark(metric: MetricPlan, others: Sequence[Mapping[str, Any]]) -> str:
    found = next((one for one in others if one["metric"] == metric.name), None)
    return " (worse than before)" if found and found["outcome"] == "worse" else ""


def _slices(worse: Sequence[Mapping[str, Any]]) -> list[str]:
    if not worse:
        return []
    shown = [f"{one['field']} {one['value']} ({one['items']} items)" for one in worse[:NAMED_SLICES]]
    more = f" and {len(worse) - NAMED_SLICES} more" if len(worse) > NAMED_SLICES else ""
    return [f"but worse on {', '.join(shown)}{more}"]


def _figure(metric: MetricPlan, column: ColumnReport, name: str) -> str:
    said = _say(metric, column.metrics[metric.name].value)
    return said if name == "base" else f"{said} ({_column(name)})"


def _column(name: str) -> str:
    return {"base": "the base", "prompted": "prompting"}.get(name, name)


def _say_name(name: str) -> str:
    return name.replace("_", " ")


def _say(metric: MetricPlan, value: float | None) -> str:
    if value is None:
        return "nothing"
    if metric.evaluator.unit == "share":
        return f"{_percent(value)} %"
    return f"{value:.3g}{' s' if metric.evaluator.unit == 'seconds' else ''}"


def _percent(value: float) -> str:
    """Whole per cent; one decimal where rounding would claim all or nothing."""
    whole = percent_of(value)
    return percent_of(value, 1) if whole in ("0", "100") and value not in (0.0, 1.0) else whole


def _range(metric: MetricPlan, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{_percent(low)}–{_percent(high)}" if metric.evaluator.unit == "share" else f"{low:.3g}–{high:.3g}"


def _points(metric: MetricPlan, low: float, high: float) -> str:
    if metric.evaluator.unit == "share":
        return f"{percent_of(low, signed=True)} to {percent_of(high, signed=True)} points"
    return f"{low:+.3g} to {high:+.3g}"
