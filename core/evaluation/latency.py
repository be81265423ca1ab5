"""Seconds per answer: a fixed sample of items, one at a time, after a warm-up."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from core.evaluation.generate import Decoding
from core.evaluation.greedy import Decoder, greedy
from core.processes import gather_objects, is_main


def latency_sample(n_items: int, size: int, seed: int) -> list[int]:
    """Positions of the items to time: `size` of `n_items`, drawn by seed, the same for every column."""
    return sorted(random.Random(seed).sample(range(n_items), min(size, n_items)))


def measure_latency(
    decoder: Decoder, prompts: Sequence[Sequence[int]], sample: Sequence[int], decoding: Decoding
) -> dict[int, dict[str, float]]:
    """`seconds` and `tokens` per sampled item, from prompt ids to the last token; the same on every rank.

    Nothing is shared between items: each computes its whole prompt, as a request of its own would. The main process
    measures; the others take part only where the weights are spread over them, so that nothing competes with it.
    """
    measured: dict[int, dict[str, float]] = {}
    if sample and (is_main() or decoder.synced):
        for turn, index in enumerate([sample[0], *sample]):  # the first call warms up
            started = time.perf_counter()
            (new,) = greedy(
                decoder,
                [prompts[index]],
                stop_ids=decoding.stop_ids,
                pad_id=decoding.pad_id,
                max_new_tokens=decoding.max_new_tokens,
            )
            if turn:
                measured[index] = {"seconds": time.perf_counter() - started, "tokens": float(len(new))}
    return dict(gather_objects(list(measured.items()) if is_main() else []))
