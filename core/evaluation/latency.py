"""Seconds per answer: a fixed sample of items, one at a time, after a warm-up."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence

from core.evaluation.generate import Decoding
from core.evaluation.greedy import Decoder, greedy
from core.processes import gather_objects, is_main


def latency_sample(n_items: int, size: int, seed: int) -> list[int]:
    """Positions of the items to time: `size` of `n_items`, drawn by seed, the same for every column."""
    return sorted(random.Random(seed).sample(range(n_items), min(size, n_items)))


def measure_latency(
    decoder: Decoder, prompts: Mapping[str, Sequence[Sequence[int]]], sample: Sequence[int], decoding: Decoding
) -> dict[str, dict[int, dict[str, float]]]:
    """`seconds`, `tokens` and `first_token` (seconds until it) per column and sampled item, from prompt ids to the last
    token; the same on every rank.

    prompts: those of each column that this model answers. Item after item the columns take turns, so that a machine
    that slows down or warms up treats them alike. Nothing is shared between items: each computes its whole prompt, as a
    request of its own would. The main process measures; the others take part only where the weights are spread over
    them, so that nothing competes with it.
    """
    found: list[tuple[str, int, dict[str, float]]] = []
    if sample and (is_main() or decoder.synced):
        for ids in prompts.values():  # each prompt form warms up by itself
            _timed(decoder, ids[sample[0]], decoding)
        for index in sample:
            found += [(name, index, _timed(decoder, ids[index], decoding)) for name, ids in prompts.items()]
    measured: dict[str, dict[int, dict[str, float]]] = {name: {} for name in prompts}
    for name, index, values in gather_objects(found if is_main() else []):
        measured[name][index] = values
    return measured


def _timed(decoder: Decoder, prompt: Sequence[int], decoding: Decoding) -> dict[str, float]:
    first: list[float] = []

    def watch(number: int, tokens: Sequence[int]) -> bool:
        if len(tokens) == 1:
            first.append(time.perf_counter())
        return False

    started = time.perf_counter()
    (new,) = greedy(
        decoder,
        [prompt],
        stop_ids=decoding.stop_ids,
        pad_id=decoding.pad_id,
        max_new_tokens=decoding.max_new_tokens,
        watch=watch,
    )
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "tokens": float(len(new)), "first_token": first[0] - started}
