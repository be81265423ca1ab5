"""Packed rows for flex attention: who sees whom, as a function of two places, and the blocks in which anyone does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from core.packing.attention import mask_windows

if TYPE_CHECKING:
    import torch

    from core.packing.rows import Ints

NAME = "flex_attention"
BLOCK = 128  # places that the kernel takes together


def block_mask(reach: torch.Tensor, positions: torch.Tensor, window: int | None = None, block_size: int = BLOCK) -> Any:
    """The `BlockMask` that says what `attention_mask` says of the same `reach` and `positions` [batch, length].

    The rule is that of documents and of a tree of shared prefixes alike: a place sees those before it whose reach goes
    beyond it; with a sliding window, those fewer than `window` positions behind on its path.
    """
    import torch
    from torch.nn.attention.flex_attention import create_block_mask

    ends, steps = reach.to(torch.int32), positions.to(torch.int32)

    def sees(line: Any, head: Any, query: Any, key: Any) -> Any:
        seen = (key <= query) & (query < ends[line, key])
        if window is not None:
            seen = seen & (steps[line, query] - steps[line, key] < window)
        return seen

    lines, length = reach.shape
    return create_block_mask(sees, lines, None, length, length, device=str(reach.device), BLOCK_SIZE=block_size)


def computed_pairs(reach: Ints | Sequence[int], block_size: int = BLOCK) -> int:
    """Pairs of places that the kernel computes for `reach` [length] as in `Bin`, padded to whole blocks by places that
    see themselves alone: those of every block in which anyone sees anyone. Sliding windows, which spare some, are left
    out of account."""
    import numpy as np

    length = -(-len(reach) // block_size) * block_size
    ends = np.arange(1, length + 1)
    ends[: len(reach)] = reach
    # a place is seen by itself and by all up to its reach: so are the blocks below its own, without a gap
    last = (ends.reshape(-1, block_size).max(1) - 1) // block_size
    return int((last - np.arange(len(last)) + 1).sum()) * block_size**2


def block_masks(config: Any, reach: torch.Tensor, positions: torch.Tensor) -> Any:
    """What a model of `config` takes as its mask: one `BlockMask`, or one for each kind of its layers."""
    made: dict[int | None, Any] = {}
    masks: dict[str, Any] = {}
    for kind, window in mask_windows(config).items():
        if window not in made:
            made[window] = block_mask(reach, positions, window)
        masks[kind] = made[window]
    return masks.get("", masks)
