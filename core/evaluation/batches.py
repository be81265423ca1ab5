"""Batches of rows, longest first, dealt to the ranks; half as many at once whenever the memory does not hold them."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from core.console import say
from core.errors import UserError
from core.evaluation.greedy import Decoder
from core.memory import is_out_of_memory
from core.processes import gather_objects, rank, world_size

Result = TypeVar("Result")
# tokens (prompts and answers, padding included) and rows to begin with, by the kind of device
TOKENS = {"cpu": 16_384}
ROWS = {"cpu": 64}
ON_ACCELERATOR = (131_072, 128)


@dataclass
class Batching:
    """How many rows are computed at once. asked: what the recipe says, or None to find it. largest: the most that the
    memory has held since it ran out once, or None. used: the rows of the largest batch that was computed."""

    asked: int | None = None
    largest: int | None = None
    used: int = 0

    def start(self, length: int, device: str) -> int:
        """Rows at once for rows of at most `length` tokens: by length alone, so that every run takes the same."""
        tokens, rows = (TOKENS[device], ROWS[device]) if device in TOKENS else ON_ACCELERATOR
        size = self.asked or max(1, min(rows, tokens // max(1, length)))
        return min(size, self.largest or size)


def dealt(
    decoder: Decoder,
    lengths: Sequence[int],
    batching: Batching,
    work: Callable[[Sequence[int]], Sequence[Result]],
    *,
    done: Collection[int] = (),
    keep: Callable[[Sequence[int], Sequence[Result]], None] | None = None,
) -> dict[int, Result]:
    """`work` on batches of indices into `lengths`; what it gives for each index, the same on every rank.

    A batch holds the same rows whatever the number of ranks. Batches whose rows are all `done` are left out. keep: told
    every batch that was computed, on its rank. Raises `UserError` where not even one row fits the memory.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    size = batching.start(max(lengths, default=1), decoder.device.type)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    batches = [batch for batch in batches if not all(index in done for index in batch)]
    mine = deque(batches[rank() :: world_size()])
    # where weights are spread over the ranks, all of them take part in every turn
    turns = -(-len(batches) // world_size())
    idle = turns - len(mine) if decoder.synced else 0
    found: list[tuple[int, Result]] = []
    while mine:
        indices = mine.popleft()
        results = _within_memory(decoder, indices, batching, work)
        if results is None:
            half = -(-len(indices) // 2)
            mine = deque(part for batch in (indices, *mine) for part in _parts(batch, half))
            continue
        batching.used = max(batching.used, len(indices))
        found += zip(indices, results, strict=True)
        if keep is not None:
            keep(indices, results)
    for _ in range(idle):
        work(order[:1])
    return dict(gather_objects(found))


def _parts(batch: Sequence[int], size: int) -> list[list[int]]:
    return [list(batch[start : start + size]) for start in range(0, len(batch), size)]


def _within_memory(
    decoder: Decoder, indices: Sequence[int], batching: Batching, work: Callable[[Sequence[int]], Sequence[Result]]
) -> Sequence[Result] | None:
    """What `work` gives, or None if the memory ran out and fewer rows are to be tried."""
    try:
        return work(indices)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        message = str(error).splitlines()[0]
    # only here, after the handler, is what the failed attempt held on to free
    _free(decoder)
    if decoder.synced:
        raise UserError(
            f"the memory does not hold {len(indices)} rows at once: {message}",
            help=f"with the weights spread over the processes, set evaluation.batch_size to less than {len(indices)}",
        )
    if len(indices) == 1:
        raise UserError(
            f"the memory does not hold a single row of the evaluation: {message}",
            help="lower evaluation.max_new_tokens, use shorter prompts, or hold the model in fewer bits",
        )
    batching.largest = -(-len(indices) // 2)
    say(f"the memory does not hold {len(indices)} rows at once: going on with {batching.largest}")
    return None


def _free(decoder: Decoder) -> None:
    import torch

    gc.collect()
    if decoder.device.type == "cuda":
        torch.cuda.empty_cache()
