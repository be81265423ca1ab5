"""Rows to the tensors of a training batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

IGNORED = -100


def collate_padded(rows: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 0) -> dict[str, torch.Tensor]:
    """Rows with `input_ids` and `labels` to a batch, padded on the right to the longest (or `pad_to`, if longer).

    Returns `input_ids`, `attention_mask`, `position_ids` [batch, length], and for every token that carries loss its id
    in `target_ids` [n] and the flat position in batch * length of the state that predicts it in `target_positions` [n].
    The first token of a row is never a target, for nothing predicts it.
    """
    length = max(pad_to, *(len(row["input_ids"]) for row in rows))
    input_ids = torch.full((len(rows), length), pad_token_id, dtype=torch.int64)
    labels = torch.full((len(rows), length), IGNORED, dtype=torch.int64)
    attention_mask = torch.zeros((len(rows), length), dtype=torch.int64)
    for line, row in enumerate(rows):
        size = len(row["input_ids"])
        input_ids[line, :size] = torch.as_tensor(row["input_ids"])
        labels[line, :size] = torch.as_tensor(row["labels"])
        attention_mask[line, :size] = 1
    lines, columns = torch.nonzero(labels[:, 1:] != IGNORED, as_tuple=True)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "position_ids": torch.arange(length).expand(len(rows), length).contiguous(),
        "target_positions": lines * length + columns,
        "target_ids": labels[lines, columns + 1],
    }


def without_targets(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same batch with nothing to learn from: its loss is an exact zero that still reaches every parameter."""
    if "parts" in batch:
        parts: Any = batch["parts"]
        return {"parts": [without_targets(parts[0])], "target_ids": batch["target_ids"][:0]}  # type: ignore[dict-item]
    return {**batch, "target_positions": batch["target_positions"][:0], "target_ids": batch["target_ids"][:0]}
