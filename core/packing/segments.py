"""Attention over packed rows without the pairs that no row has: block by block instead of one masked square.

A bin falls into segments: stretches of places that continue one path, a whole row or a branch behind a shared prefix.
Places of a segment attend to the path above it and, causally, to the segment; nothing else. Segments with the same
path above and alike in length are computed as one batch. So the work grows with the squares of the rows, not of the
bin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from core.packing.rows import Ints

NAME = "tunesmith_segments"  # as transformers knows this attention
CALL_PAIRS = 4096  # pairs whose computing costs as much as another call of the attention kernel


@dataclass(frozen=True)
class Block:
    """`count` segments of at most `length` places, padded to that, all behind the same `above` [a] (places).

    start: where the block begins in `Segments.places`. mask: bool [1 or count, 1, length, a + length], None where plain
    causal attention is right.
    """

    count: int
    length: int
    start: int
    above: torch.Tensor
    mask: torch.Tensor | None


@dataclass(frozen=True)
class Segments:
    """How the places of a batch (counted over batch * length) are rearranged into blocks.

    places [m]: the place at each slot of all blocks; a slot of padding repeats place 0. slots [batch * length]: the
    slot of each place, 0 where it has none. padding [p]: the slots that hold no place. idle [i]: places without one.
    arranged: what attention derives from these at its first layer and keeps for the others (see `arranged`).
    """

    blocks: tuple[Block, ...]
    places: torch.Tensor
    slots: torch.Tensor
    padding: torch.Tensor
    idle: torch.Tensor
    arranged: dict[tuple[Any, ...], Any] = field(default_factory=dict, init=False, compare=False, repr=False)


def segments_of(reach: Ints, positions: Ints, sizes: list[int], window: int | None = None) -> Segments:
    """The segments of bins padded to a batch: reach, positions [batch, length] as in `Bin`, with `sizes` places used.

    window: the sliding window in tokens, None without one.
    """
    import numpy as np
    import torch

    length = reach.shape[1]
    found: dict[bytes, list[tuple[int, int]]] = {}  # by path above: (first place, size), flat
    paths: dict[bytes, Ints] = {}
    for line, size in enumerate(sizes):
        ends, steps = reach[line, :size], positions[line, :size]
        fresh = (np.diff(ends) != 0) | (np.diff(steps) != 1)
        starts = [0, *(np.flatnonzero(fresh) + 1).tolist()]
        for start, end in zip(starts, [*starts[1:], size], strict=True):
            above = np.flatnonzero(ends[:start] > start) + line * length
            if window is not None and len(above):
                # what no place of the segment sees
                above = above[positions.ravel()[above] > steps[start] - window]
            key = above.tobytes()
            paths[key] = above
            found.setdefault(key, []).append((line * length + start, end - start))
    blocks: list[Block] = []
    places: list[Ints] = []
    slots = np.zeros(reach.size, dtype=np.int64)
    padding: list[Ints] = []
    total = 0
    flat = positions.ravel()
    for key, members in found.items():
        for group in _alike(sorted(members, key=lambda member: -member[1]), len(paths[key])):
            longest = group[0][1]
            own = np.zeros((len(group), longest), dtype=np.int64)
            used = np.zeros((len(group), longest), dtype=bool)
            for row, (first, size) in enumerate(group):
                own[row, :size] = np.arange(first, first + size)
                used[row, :size] = True
                slots[first : first + size] = total + row * longest + np.arange(size)
            padding.append(total + np.flatnonzero(~used.ravel()))
            mask = _block_mask(flat, paths[key], group, window)
            above = torch.from_numpy(paths[key])
            blocks.append(Block(len(group), longest, total, above, None if mask is None else torch.from_numpy(mask)))
            places.append(own.ravel())
            total += own.size
    return Segments(
        tuple(blocks),
        torch.from_numpy(np.concatenate(places)),
        torch.from_numpy(slots),
        torch.from_numpy(np.concatenate(padding)),
        torch.from_numpy(np.flatnonzero(np.arange(length) >= np.asarray(sizes)[:, None])),
    )


def _alike(members: list[tuple[int, int]], above: int) -> list[list[tuple[int, int]]]:
    """Split segments, longest first, so that padding them to the longest of their group costs little."""
    groups: list[list[tuple[int, int]]] = []
    spent = 0  # pairs computed for padding alone, in the open group
    for member in members:
        if groups:
            longest = groups[-1][0][1]
            extra = longest * (longest + above) - member[1] * (member[1] + above)
            if spent + extra <= CALL_PAIRS or extra * 4 <= longest * (longest + above):
                spent += extra
                groups[-1].append(member)
                continue
        groups.append([member])
        spent = 0
    return groups


def _block_mask(positions: Ints, above: Ints, group: list[tuple[int, int]], window: int | None) -> Any:
    """bool [1, 1, length, a + length], None for plain causal attention.

    One mask serves all: the places of every segment of a group stand equally far behind the same path, and what pads a
    shorter one comes after all its places, out of their sight.
    """
    import numpy as np

    longest = group[0][1]
    if not len(above) and (window is None or window >= longest):
        return None
    first = int(positions[group[0][0]])
    queries = first + np.arange(longest)
    keys = np.concatenate([positions[above], queries])
    seen = keys[None, :] <= queries[:, None]
    if window is not None:
        seen &= keys[None, :] > queries[:, None] - window
    return seen[None, None]


def register() -> str:
    """Make the attention known to transformers, once; returns its name for `set_attn_implementation`.

    A mask that carries no segments (see `carry`) is computed as by sdpa: so the model is also used for other things.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    from core.packing.segment_attention import segment_attention

    AttentionInterface.register(NAME, segment_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
