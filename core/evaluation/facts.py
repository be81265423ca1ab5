"""What metrics ask of core besides the answers, and what is kept of them when one of them fails."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from core.evaluation.metrics import ScoringError
from core.types import Item, MetricPlan, Plan
from core.whole_file import write_whole


def choices_of(metrics: Sequence[MetricPlan], items: Sequence[Item]) -> dict[str, list[list[str]]]:
    """The choices of every item, by the kind of fact they become: "choices:METRIC@" and a hash of what they are."""
    found = {}
    for metric in metrics:
        if "choices" in metric.evaluator.needs and metric.evaluator.choices is not None:
            listed = [list(metric.evaluator.choices(item, metric.options)) for item in items]
            digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]
            found[f"choices:{metric.name}@{digest}"] = listed
    return found


def settled_by(plan: Plan, items: Sequence[Item]) -> Callable[[int, str], bool] | None:
    """Whether the answer to an item may end: no metric's figure can change any more. None where the recipe does not ask
    for it, or a metric that reads answers cannot tell."""
    reading = [metric for metric in plan.evaluation.metrics if not metric.evaluator.needs]
    if not plan.evaluation.stop_settled or not reading or any(metric.evaluator.settled is None for metric in reading):
        return None
    if any(item.thinking_ends for item in items):
        return None  # what a model thinks settles nothing

    def settled(position: int, text: str) -> bool:
        item = items[position]
        return all(
            metric.evaluator.settled(text, item, metric.options) for metric in reading if metric.evaluator.settled
        )

    return settled


def save_scores(path: Path, error: ScoringError, items: Sequence[Item]) -> Path:
    """Write the scores that were reached before a metric failed, whole or not at all; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "failed": error.message,
        "metrics": {
            name: {"value": result.value, "n": result.n, "summary": dict(result.summary)}
            for name, result in error.scored.items()
        },
        "items": [
            {
                "index": item.index,
                "place": item.place,
                "scores": {name: result.scores[position] for name, result in error.scored.items()},
                **({"begun": error.begun[position]} if position < len(error.begun) else {}),
            }
            for position, item in enumerate(items)
        ],
    }
    write_whole(path, json.dumps(values, ensure_ascii=False, indent=1) + "\n")
    return path
