"""Packed rows for flash attention, which takes no mask: all rows in one line, and where each begins and ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from core.packing.rows import Bin

if TYPE_CHECKING:
    import torch

    from core.packing.rows import Ints

SHARED = "keeps rows apart by their lengths alone, and cannot share a prefix"


def goes_by_lengths(attention: str | None) -> bool:
    """Whether an attention implementation is one of flash attention's, under its own name or as a kernel of the hub."""
    return "flash" in (attention or "")


def chained(bins: Sequence[Bin]) -> Bin:
    """Bins one behind the other, as one."""
    import numpy as np

    starts = np.cumsum([0, *(len(b) for b in bins)])[:-1]
    return Bin(
        rows=tuple(row for b in bins for row in b.rows),
        tokens=np.concatenate([b.tokens for b in bins]),
        positions=np.concatenate([b.positions for b in bins]),
        reach=np.concatenate([b.reach + start for b, start in zip(bins, starts, strict=True)]),
        target_places=np.concatenate([b.target_places + start for b, start in zip(bins, starts, strict=True)]),
        target_ids=np.concatenate([b.target_ids for b in bins]),
        unshared_tokens=sum(b.unshared_tokens for b in bins),
    )


def cumulative_lengths(b: Bin) -> Ints:
    """[rows + 1]: where the rows of a bin begin, and where the last one ends.

    Raises ValueError where rows share a prefix: what is shared belongs to several rows, and is none by itself.
    """
    import numpy as np

    starts = np.flatnonzero(np.diff(b.reach, prepend=-1))
    bounds = np.append(starts, len(b))
    sizes = np.diff(bounds)
    whole = (b.reach == np.repeat(bounds[1:], sizes)) & (b.positions == np.arange(len(b)) - np.repeat(starts, sizes))
    if not whole.all():
        raise ValueError("rows that share a prefix have no lengths of their own")
    return bounds.astype(np.int64)


def as_arguments(lengths: torch.Tensor) -> dict[str, Any]:
    """The keyword arguments by which transformers hands `cumulative_lengths` on to flash attention."""
    longest = int(lengths.diff().max())
    return {
        "cu_seq_lens_q": lengths,
        "cu_seq_lens_k": lengths,
        "max_length_q": longest,
        "max_length_k": longest,
    }
