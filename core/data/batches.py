"""Padded batches for trainers that bring a loop of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from core.data.tokenise import IGNORED

if TYPE_CHECKING:
    import torch
    from datasets import Dataset


def padded_batches(train: Dataset, micro_batch_size: int, pad_token_id: int) -> Iterator[dict[str, torch.Tensor]]:
    """One pass over `train` in order; the last batch may be smaller.

    Each batch has `input_ids`, `attention_mask` and `labels`, all int64 [batch, length], padded on the right.
    """
    import torch

    for start in range(0, len(train), micro_batch_size):
        rows = train[start : start + micro_batch_size]
        length = max(len(ids) for ids in rows["input_ids"])

        def pad(lists: list[list[int]], filler: int, length: int = length) -> torch.Tensor:
            return torch.tensor([[*values, *[filler] * (length - len(values))] for values in lists], dtype=torch.int64)

        yield {
            "input_ids": pad(rows["input_ids"], pad_token_id),
            "attention_mask": pad([[1] * len(ids) for ids in rows["input_ids"]], 0),
            "labels": pad(rows["labels"], IGNORED),
        }
