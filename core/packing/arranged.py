"""The order in which a batch's heads and places are computed block by block (see `segments`), as indices.

Rows are single heads of single places, so that one gathering lays out queries, keys or values of all blocks at once and
every block is a slice without a copy. Heads that share a key stand side by side and meet it in one product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from core.packing.segments import Block, Segments

SHORT = 200  # keys up to which plain products are faster than the flash kernel
SHORT_BEHIND = 640  # the same behind a shared path longer than what follows: more weights than these are not kept


@dataclass(frozen=True)
class Lines:
    """A block within the layout: its rows of queries and of keys, and what is added to its scores.

    mask: [1, groups * length, a + length] for plain products; for the flash kernel [1, 1, length, a + length], or None
    where it is causal.
    """

    block: Block
    queries: slice
    keys: slice
    mask: torch.Tensor | None
    short: bool


@dataclass(frozen=True)
class Arranged:
    """Where what stands, for some number of heads.

    queries [m * heads]: the row of [n * heads, d] at each row of the layout (blocks of [count, heads, length]); keys:
    the same of [n * kv heads, d] (blocks of [count, kv heads, a + length]). own_queries [n * heads], own_keys
    [n * kv heads]: where in the layout each row stands, a shared path left out. padding: rows of the layout's queries
    that hold no place. above: the places of all blocks' shared paths, one after the other.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    own_queries: torch.Tensor
    own_keys: torch.Tensor
    padding: torch.Tensor
    above: torch.Tensor
    lines: tuple[Lines, ...]


def arranged(segments: Segments, heads: int, kv_heads: int, dtype: torch.dtype) -> Arranged:
    """The order of `segments`, made once for all layers with so many heads that compute in `dtype`."""
    key = heads, kv_heads, dtype
    if key not in segments.arranged:
        segments.arranged[key] = _arrange(segments, heads, kv_heads, dtype)
    found: Arranged = segments.arranged[key]
    return found


def _arrange(segments: Segments, heads: int, kv_heads: int, dtype: torch.dtype) -> Arranged:
    queries: list[torch.Tensor] = []
    keys: list[torch.Tensor] = []
    query_stands: list[torch.Tensor] = []
    key_stands: list[torch.Tensor] = []
    lines: list[Lines] = []
    first_query = first_key = 0
    for block in segments.blocks:
        own = segments.places[block.start : block.start + block.count * block.length].view(block.count, 1, -1)
        sources = torch.cat([block.above.expand(block.count, 1, -1), own], -1)
        queries.append(_rows(own, heads))
        keys.append(_rows(sources, kv_heads))
        short = sources.shape[-1] <= (SHORT_BEHIND if len(block.above) > block.length else SHORT)
        cuts = slice(first_query, first_query + len(queries[-1])), slice(first_key, first_key + len(keys[-1]))
        mask = _added(block, dtype, heads // kv_heads, short, own.device)
        lines.append(Lines(block, *cuts, mask, short))
        query_stands.append(_stands(cuts[0], block, heads, own.device))
        key_stands.append(_stands(cuts[1], block, kv_heads, own.device))
        first_query, first_key = (cut.stop for cut in cuts)
    at = torch.cat(query_stands)
    return Arranged(
        torch.cat(queries),
        torch.cat(keys),
        at.index_select(0, segments.slots).flatten(),
        torch.cat(key_stands).index_select(0, segments.slots).flatten(),
        at.index_select(0, segments.padding).flatten(),
        torch.cat([block.above for block in segments.blocks]),
        tuple(lines),
    )


def _rows(places: torch.Tensor, heads: int) -> torch.Tensor:
    """places [count, 1, k] as rows of single heads, heads first: [count * heads * k]."""
    return (places * heads + torch.arange(heads, device=places.device)[:, None]).flatten()


def _stands(rows: slice, block: Block, heads: int, device: torch.device) -> torch.Tensor:
    """[count * length, heads]: where in the layout the block's slots stand."""
    stands = torch.arange(rows.start, rows.stop, device=device).view(block.count, heads, -1)
    return stands[:, :, -block.length :].transpose(1, 2).reshape(-1, heads)


def _added(block: Block, dtype: torch.dtype, groups: int, short: bool, device: torch.device) -> torch.Tensor | None:
    seen = block.mask
    if seen is None:
        if not short:
            return None
        seen = torch.ones(1, 1, block.length, block.length, dtype=torch.bool, device=device).tril_()
    added = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(seen.logical_not(), -torch.inf)
    return added[0].repeat(1, groups, 1) if short else added
