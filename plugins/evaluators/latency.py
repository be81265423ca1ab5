"""`latency`: seconds per answer, on a fixed sample, one at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from core import Evaluator, Item, hookimpl
from core.types import Options

PERCENTILE = 0.95


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """Seconds and tokens of this item, if it is one of the sample."""
    if "seconds" not in item.facts:
        return {}
    found = {"latency": item.facts["seconds"], "tokens": item.facts["tokens"]}
    if "first_token" in item.facts:
        found["first_token"] = item.facts["first_token"]
    return found


def summarise(scores: Sequence[dict[str, float]], options: Options) -> dict[str, float]:
    """Median and 95th percentile of the seconds (the nearest rank), tokens per second and per answer, and the median
    time to the first token."""
    seconds = sorted(score["latency"] for score in scores)
    tokens = math.fsum(score["tokens"] for score in scores)
    first = [score["first_token"] for score in scores if "first_token" in score]
    return {
        "latency": median(seconds),
        "p95": seconds[math.ceil(PERCENTILE * len(seconds)) - 1],
        "tokens_per_second": tokens / max(math.fsum(seconds), 1e-9),
        "tokens_per_answer": tokens / len(scores),
        **({"first_token": median(first)} if first else {}),
    }


@hookimpl
def evaluators() -> list[Evaluator]:
    return [
        Evaluator(
            "latency",
            score,
            summarise=summarise,
            higher_is_better=False,
            unit="seconds",
            needs=("latency",),
            description="Median seconds per answer, one at a time; with p95, time to the first token, tokens per s.",
        )
    ]
