"""Plans, items and metrics for the tests of evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.host import Host
from core.results import ColumnReport, Generation, MetricResult
from core.testing.recipes import tiny_plan
from core.types import Evaluator, Item, MetricPlan, Plan


def make_item(reference: str = "yes", *, index: int = 0, prompt: str = "Is 2 even?", row: Any = None) -> Item:
    return Item(index, row or {}, prompt, (reference,), f"test.jsonl:{index + 1}")


def make_items(*references: str) -> list[Item]:
    return [
        make_item(reference, index=index, prompt=f"Question {index}?") for index, reference in enumerate(references)
    ]


def make_answer(text: str, *, tokens: int = 1, stopped: bool = True) -> Generation:
    return Generation(text, tokens, stopped)


def make_metric(evaluator: Evaluator, *, name: str | None = None, **options: Any) -> MetricPlan:
    return MetricPlan(name or evaluator.name, evaluator, options)


def exact(prediction: str, item: Item, options: Mapping[str, Any]) -> dict[str, float]:
    return {"accuracy": float(prediction == item.references[0])}


def make_column(name: str, **scores: Sequence[float | None]) -> ColumnReport:
    """A column with the given scores per metric; the value of each is their mean."""
    metrics = {}
    for metric, values in scores.items():
        known = [value for value in values if value is not None]
        mean = sum(known) / len(known) if known else None
        summary = {metric: mean} if mean is not None else {}
        metrics[metric] = MetricResult(mean, summary, None, list(values), len(known))
    return ColumnReport(name, (), metrics)


def make_eval_plan(folder: Path, model: Path, host: Host, evaluation: Mapping[str, Any], **values: Any) -> Plan:
    """A plan of the tiny recipe that scores twelve rows it does not train on."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"instruction": "Answer with yes or no.", "input": f"Is {n} even?", "output": "no" if n % 2 else "yes"}
        for n in range(100, 112)
    ]
    (folder / "test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    scored = {
        "datasets": [{"path": str(folder / "test.jsonl"), "type": "alpaca"}],
        "max_new_tokens": 8,
        "latency_sample": 2,
        **evaluation,
    }
    return tiny_plan(folder, model, host, {"evaluation": scored, **values})
