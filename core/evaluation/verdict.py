"""Was fine-tuning worth it? Words made from the figures by rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from core.evaluation.statistics import (
    CONFIDENCE,
    bootstrap_mean,
    counts_of,
    holm,
    is_binary,
    mcnemar,
    newcombe_paired,
    permutation,
)
from core.results import ColumnReport
from core.types import Item, MetricPlan, Plan

TUNED = "tuned"
CLOSED_SET = 1000  # more different answers than this are no set of labels to guess from


def baselines(items: Sequence[Item]) -> dict[str, Any] | None:
    """What needs no model: `chance` (guessing among the answers that occur) and `majority` (always the most frequent).

    None where the answers are no closed set: fewer than two items to an answer on average.
    """
    answers = Counter(item.references[0].strip() for item in items)
    if not items or 2 * len(answers) > len(items) or len(answers) > CLOSED_SET:
        return None
    answer, count = answers.most_common(1)[0]
    return {
        "answers": len(answers),
        "chance": 1 / len(answers),
        "majority": count / len(items),
        "majority_answer": answer,
    }


def verdict(plan: Plan, columns: Mapping[str, ColumnReport]) -> dict[str, Any]:
    """The decision, JSON-ready: `words`, `outcome`, `metric`, `against` and `comparisons`.

    The first metric of the recipe that judges answers decides, against the best untuned column. outcome: `better` or
    `worse` if the 95 % interval of the paired difference leaves out zero, else `not_shown`; `no_test_set` and
    `not_compared` where there is nothing to decide on.
    """
    tuned = columns.get(TUNED)
    # other models, and copies of the tuned one, are shown beside it; the question is whether its base would have done
    others = {column.name for column in plan.evaluation.columns if column.kind not in ("base", "prompted")}
    untuned = {name: column for name, column in columns.items() if name != TUNED and name not in others}
    if not columns:
        words = "No verdict: nothing was held back for testing; name a test set under evaluation.datasets."
        return _undecided("no_test_set", words)
    decisive = _decisive(plan, columns)
    if tuned is None or not untuned or decisive is None:
        words = "No verdict: the recipe compares no tuned column with an untuned one; see evaluation.compare."
        return _undecided("not_compared", words)
    sign = 1 if decisive.evaluator.higher_is_better else -1
    scored = {name: column for name, column in untuned.items() if column.metrics[decisive.name].value is not None}
    if not scored or tuned.metrics[decisive.name].value is None:
        return _undecided("not_compared", f"No verdict: {_say_name(decisive.name)} applies to no item.")
    best = max(scored, key=lambda name: sign * (scored[name].metrics[decisive.name].value or 0.0))
    comparisons = [
        compare(metric, tuned, column, seed=plan.recipe["seed"] or 0)
        for metric in plan.evaluation.metrics
        for column in columns.values()
        if column.name != TUNED and _comparable(metric, tuned, column)
    ]
    _correct(comparisons, best)
    chosen = next(c for c in comparisons if c["metric"] == decisive.name and c["against"] == best)
    return {
        "outcome": chosen["outcome"],
        "words": _words(plan, decisive, columns, best, chosen),
        "metric": decisive.name,
        "against": best,
        "comparisons": comparisons,
        "caveats": ["one seed: how much another training run would differ is not included"],
    }


def compare(
    metric: MetricPlan, tuned: ColumnReport, other: ColumnReport, *, seed: int = 0, confidence: float = CONFIDENCE
) -> dict[str, Any]:
    """Tuned against another column on the items both have a score for: difference, interval, p-value, outcome.

    The difference is tuned minus other; right/wrong scores by Newcombe's interval and McNemar's exact test, others by
    bootstrap and sign flips. Fixed and broken count the items that tuning moved up and down.
    """
    mine, theirs = tuned.metrics[metric.name], other.metrics[metric.name]
    pairs = [(a, b) for a, b in zip(mine.scores, theirs.scores, strict=True) if a is not None and b is not None]
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    differences = [a - b for a, b in pairs]
    interval: tuple[float, float] | None
    if is_binary([*first, *second]):
        both, only_first, only_second, neither = counts_of(first, second)
        interval = newcombe_paired(both, only_first, only_second, neither, confidence)
        p_value = mcnemar(only_first, only_second)
    else:
        interval = bootstrap_mean(differences, seed=seed, confidence=confidence)
        p_value = permutation(differences, seed=seed)
    sign = 1 if metric.evaluator.higher_is_better else -1
    outcome = "not_shown"
    # the bootstrap of a handful of items is too sure of itself: sign flips must agree
    sure = is_binary([*first, *second]) or p_value < 0.05
    if interval is not None and sure and (interval[0] > 0 or interval[1] < 0):
        outcome = "better" if sign * interval[0] > 0 else "worse"
    return {
        "metric": metric.name,
        "against": other.name,
        "difference": sum(differences) / len(differences),
        "interval": list(interval) if interval else None,
        "p_value": p_value,
        "outcome": outcome,
        "n": len(pairs),
        "fixed": sum(sign * difference > 0 for difference in differences),
        "broken": sum(sign * difference < 0 for difference in differences),
    }


def _undecided(outcome: str, words: str) -> dict[str, Any]:
    return {"outcome": outcome, "words": words, "metric": None, "against": None, "comparisons": [], "caveats": []}


def _decisive(plan: Plan, columns: Mapping[str, ColumnReport]) -> MetricPlan | None:
    """The first metric that judges answers (it needs no measured facts); else the first of all."""
    known = [m for m in plan.evaluation.metrics if all(m.name in column.metrics for column in columns.values())]
    return next((metric for metric in known if not metric.evaluator.needs), known[0] if known else None)


def _comparable(metric: MetricPlan, tuned: ColumnReport, other: ColumnReport) -> bool:
    if metric.name not in tuned.metrics or metric.name not in other.metrics:
        return False
    scores = zip(tuned.metrics[metric.name].scores, other.metrics[metric.name].scores, strict=True)
    return any(a is not None and b is not None for a, b in scores)


def _correct(comparisons: list[dict[str, Any]], best: str) -> None:
    """Add the p-values corrected for the number of metrics compared with the best untuned column."""
    family = [comparison for comparison in comparisons if comparison["against"] == best]
    corrected = holm([comparison["p_value"] for comparison in family])
    for comparison, value in zip(family, corrected, strict=True):
        comparison["p_value_holm"] = value


# ---------------------------------------------------------------- words


def _words(
    plan: Plan, metric: MetricPlan, columns: Mapping[str, ColumnReport], best: str, chosen: Mapping[str, Any]
) -> str:
    opening = {
        "better": "Fine-tuning is worth it",
        "worse": "Fine-tuning made it worse",
        "not_shown": f"Not shown with {chosen['n']} items that fine-tuning helps",
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
        text += f"; difference to {_column(best)} {_points(metric, low, high)}"
    for other in plan.evaluation.metrics:
        figure = columns[TUNED].metrics.get(other.name)
        judged = other.evaluator.unit == "share" and not other.evaluator.needs
        if other.name != metric.name and judged and figure is not None and figure.value is not None:
            text += f"; {_say_name(other.name)} {_say(other, figure.value)}"
    return text + "."


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
    rounded = f"{100 * value:.0f}"
    return f"{100 * value:.1f}" if rounded in ("0", "100") and value not in (0.0, 1.0) else rounded


def _range(metric: MetricPlan, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{_percent(low)}–{_percent(high)}" if metric.evaluator.unit == "share" else f"{low:.3g}–{high:.3g}"


def _points(metric: MetricPlan, low: float, high: float) -> str:
    if metric.evaluator.unit == "share":
        return f"{100 * low:+.0f} to {100 * high:+.0f} points"
    return f"{low:+.3g} to {high:+.3g}"
