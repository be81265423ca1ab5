"""Bins as tensors: the batch that a transformers model takes as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.packing import block_masks, segments
from core.packing.attention import mask_windows
from core.packing.lengths import chained, cumulative_lengths, goes_by_lengths
from core.packing.rows import Bin

if TYPE_CHECKING:
    import torch


def collate_bins(
    bins: Sequence[Bin],
    config: Any,
    *,
    attn_implementation: str | None = None,
    dtype: torch.dtype | None = None,
    pad_token_id: int = 0,
    pad_to_multiple_of: int = 1,
    pad_to: int = 0,
) -> dict[str, Any]:
    """One batch of `bins`, padded on the right to the longest (or `pad_to`, if longer).

    input_ids, position_ids [batch, length]; target_positions, target_ids [n]: flat index of the hidden state that
    predicts, and what it predicts; attention_mask: bool [batch, 1, length, length], True where a place (row) sees a
    place (column); padding sees itself. Where every bin is one plain row, all ones [batch, length] instead: causal
    attention is right then, and faster without a mask. A model with several kinds of layers gets a dict of masks.

    attn_implementation: default the one in `config`; "eager" adds its mask to the scores, so it gets one of `dtype`
    (default: the model's, else float32). For the attention of `segments` the masks carry, as an attribute, what lets it
    compute block by block; a mask that lost it on its way between processes still says the same.

    Two take no such mask (`model_inputs` makes of it what they take). Flex attention gets `reach` [batch, length]
    instead, padded to whole blocks. Flash attention gets all bins in one line and `cu_seq_lens` [rows + 1], what pads
    being a row of its own; ValueError where rows share a prefix.
    """
    import numpy as np
    import torch

    attention = attn_implementation or getattr(config, "_attn_implementation", None)
    plain = all((b.reach == len(b)).all() for b in bins)
    if not plain and attention == block_masks.NAME:
        pad_to_multiple_of = math.lcm(pad_to_multiple_of, block_masks.BLOCK)
    if not plain and goes_by_lengths(attention):
        bins, pad_to = [chained(bins)], pad_to * len(bins)
    length = max(pad_to, *(len(b) for b in bins))
    length = -(-length // pad_to_multiple_of) * pad_to_multiple_of
    tokens = np.full((len(bins), length), pad_token_id, dtype=np.int64)
    positions = np.zeros((len(bins), length), dtype=np.int64)
    reach = np.tile(np.arange(1, length + 1), (len(bins), 1))
    for k, b in enumerate(bins):
        tokens[k, : len(b)] = b.tokens
        positions[k, : len(b)] = b.positions
        reach[k, : len(b)] = b.reach
    batch: dict[str, Any] = {
        "input_ids": torch.from_numpy(tokens),
        "target_positions": torch.from_numpy(
            np.concatenate([b.target_places + k * length for k, b in enumerate(bins)])
        ),
        "target_ids": torch.from_numpy(np.concatenate([b.target_ids for b in bins])),
    }
    if plain:
        batch["position_ids"] = torch.arange(length).expand(len(bins), -1)
        batch["attention_mask"] = torch.ones(len(bins), length, dtype=torch.int64)
        return batch
    batch["position_ids"] = torch.from_numpy(positions)
    if attention == block_masks.NAME:
        batch["reach"] = torch.from_numpy(reach)
        return batch
    if goes_by_lengths(attention):
        bounds = cumulative_lengths(bins[0])
        bounds = bounds if bounds[-1] == length else np.append(bounds, length)
        batch["cu_seq_lens"] = torch.from_numpy(bounds).to(torch.int32)
        return batch
    masks: dict[str, torch.Tensor] = {}
    by_window: dict[int | None, torch.Tensor] = {}
    for kind, window in mask_windows(config).items():
        if window is not None and window > positions.max():
            window = None  # no row is long enough to feel it
        if window not in by_window:
            mask = attention_mask(torch.from_numpy(reach), batch["position_ids"], window)
            if attention == "eager":
                mask = additive(mask, dtype or getattr(config, "dtype", None))
            elif attention == segments.NAME:
                sizes = [len(b) for b in bins]
                mask.segments = segments.segments_of(reach, positions, sizes, window)  # type: ignore[attr-defined]
            by_window[window] = mask
        masks[kind] = by_window[window]
    batch["attention_mask"] = masks.get("", masks)
    return batch


def attention_mask(reach: torch.Tensor, positions: torch.Tensor, window: int | None = None) -> torch.Tensor:
    """bool [batch, 1, length, length] from `reach` and `positions` [batch, length] (see `Bin`).

    A place sees those before it whose reach goes beyond it and, with a sliding window, that are fewer than `window`
    positions behind on the path; never by distance in storage, which counts other rows in between.
    """
    import torch

    places = torch.arange(reach.shape[1], device=reach.device, dtype=torch.int32)
    mask = places[None, :, None] < reach.to(torch.int32)[:, None, :]
    mask &= places[:, None] >= places[None, :]
    if window is not None:
        short = positions.to(torch.int32)
        mask &= short[:, :, None] < (short + window)[:, None, :]
    return mask[:, None]


def additive(mask: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A bool mask as numbers to add to attention scores: 0 where True, the dtype's lowest where False."""
    import torch

    dtype = dtype if isinstance(dtype, torch.dtype) else torch.float32
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)


def move_batch(batch: Mapping[str, Any], device: torch.device | str) -> dict[str, Any]:
    """The batch on `device`, masks by layer kind included."""
    return {
        key: move_batch(value, device) if isinstance(value, Mapping) else value.to(device, non_blocking=True)
        for key, value in batch.items()
    }
