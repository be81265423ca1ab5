"""A small finished run, by hand: three items, of which tuning fixed one and broke one."""

from __future__ import annotations

import copy
from typing import Any

import pytest


def _metric(value: float, interval: list[float] | None = None) -> dict[str, Any]:
    return {"value": value, "interval": interval, "n": 3, "summary": {}}


VALUES: dict[str, Any] = {
    "format_version": 1,
    "tunesmith": "0.1.0",
    "finished": "2026-01-02T03:04:05+00:00",
    "recipe": {"path": "my.yml", "values": {"base_model": "org/model", "adapter": "lora"}, "defaults": {"seed": 42}},
    "base_model": "org/model",
    "adapter": "lora",
    "trainer": "sft",
    "environment": {"threads": 2},
    "data": {"datasets": []},
    "parameters": {"trained": 460_800, "total": 134_975_808},
    "train": {
        "losses": [2.0, 1.5, None, 0.7],
        "steps": 4,
        "seconds": 386.0,
        "tokens": 12_345,
        "stopped": None,
        "history": [{"step": 4, "eval_loss": 0.9}],
    },
    "memory": {"peak_bytes": 3 * 2**30},
    "evaluation": {
        "base": {"accuracy": _metric(1 / 3, [0.06, 0.79]), "latency": _metric(1.234)},
        "tuned": {"accuracy": _metric(2 / 3, [0.21, 0.94]), "latency": _metric(0.5)},
    },
    "metrics": {
        "accuracy": {"unit": "share", "higher_is_better": True},
        "latency": {"unit": "seconds", "higher_is_better": False},
    },
    "columns": {"base": {"tokens_per_answer": 12.0}, "tuned": {"tokens_per_answer": 4.5}},
    "items": 3,
    "baselines": {"chance": 0.5, "majority": 2 / 3, "answers": 2, "majority_answer": "yes"},
    "verdict": {"words": "Not shown with this many items.", "outcome": "not_shown"},
    "seconds": 745.0,
}


def _answer(text: str, accuracy: float) -> dict[str, Any]:
    return {"text": text, "tokens": 3, "stopped": True, "scores": {"accuracy": accuracy}}


PREDICTIONS: list[dict[str, Any]] = [
    {
        "index": index,
        "place": f"test.jsonl:{index + 1}",
        "prompt": f"Question {index} </script><b>bold</b>",
        "references": ["yes"],
        "answers": {
            "base": _answer("maybe" if base == 0 else "yes", base),
            "tuned": _answer("yes" if tuned else "no", tuned),
        },
    }
    for index, (base, tuned) in enumerate([(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1.0, 1.0)])
]


@pytest.fixture
def values() -> dict[str, Any]:
    return copy.deepcopy(VALUES)


@pytest.fixture
def predictions() -> list[dict[str, Any]]:
    return copy.deepcopy(PREDICTIONS)
