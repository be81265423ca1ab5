"""Packed rows for flex attention: who sees whom, as a function of two places, and the blocks in which anyone does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.packing.attention import mask_windows

if TYPE_CHECKING:
    import torch

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


def block_masks(config: Any, reach: torch.Tensor, positions: torch.Tensor) -> Any:
    """What a model of `config` takes as its mask: one `BlockMask`, or one for each kind of its layers."""
    made: dict[int | None, Any] = {}
    masks: dict[str, Any] = {}
    for kind, window in mask_windows(config).items():
        if window not in made:
            made[window] = block_mask(reach, positions, window)
        masks[kind] = made[window]
    return masks.get("", masks)
