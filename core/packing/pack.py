"""The two ways to pack: a whole data set into bins of `sequence_len`, or the rows of one step into the cheapest."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.packing.block_masks import computed_pairs
from core.packing.dissolve import cheapest_bins
from core.packing.prefixes import fill_apart, fill_bins, lay_out
from core.packing.rows import Bin, blank_bin, outline, trace_row

CAPACITY_STEP = 1.25  # ratio between the bin capacities that pack_step tries
LEVELLED_BINS = 100
LEVEL_SLACK = 1.01  # room of bins alike in size, over their mean
PASS_TOKENS = 100  # what computing one more bin costs, in tokens: measured, see benchmarks/LOG.md


@dataclass(frozen=True)
class Packing:
    """A data set packed into bins. bins: row indices of each bin; a row that trains nothing is in none.

    sizes: tokens that each bin computes. row_tokens: those that the rows need computed when each stands alone.
    capacity: tokens a bin may hold. idle_rows: how many rows train nothing.
    """

    bins: tuple[tuple[int, ...], ...]
    sizes: Sequence[int]
    capacity: int
    row_tokens: int
    idle_rows: int

    @property
    def stored_tokens(self) -> int:
        """Tokens that all bins compute."""
        return sum(self.sizes)

    @property
    def efficiency(self) -> float:
        """Share of the bins' room that is filled, 0..1."""
        return self.stored_tokens / max(1, len(self.bins) * self.capacity)

    @property
    def computed_share(self) -> float:
        """Share of the rows' tokens that is computed, 0..1; 1 where nothing is shared."""
        return self.stored_tokens / max(1, self.row_tokens)


def pack_dataset(
    rows: Iterable[Mapping[str, Any]], sequence_len: int, *, share_prefixes: bool = True, padded: bool = False
) -> Packing:
    """Pack all rows (`input_ids`, `labels`) into bins of at most `sequence_len` stored tokens, no row split.

    Deterministic; bins come in no order of size, see `epoch_order` for the order of training. With shared prefixes a
    bin holds more rows, so a step of as many bins sees more rows; rows that begin alike stand in several bins where
    computing their prefix again costs less than a bin: `PASS_TOKENS`, or all of it if bins are `padded` to
    `sequence_len`. Raises ValueError for a row that does not fit.
    """
    # rows are read once and let go: what is held of each is its length and, where they are shared, its prompt
    if share_prefixes:
        outlines = [outline(row) for row in rows]
        lengths = array("q", (row.length for row in outlines))
        # padded, a bin costs all that it has room for, whatever it stores: the fewest are best
        bin_cost = max(PASS_TOKENS, sum(lengths)) if padded else PASS_TOKENS
        bins, sizes = _levelled(lambda room: cheapest_bins(outlines, room, bin_cost), sequence_len, lengths, bin_cost)
    else:
        lengths = array("q", (outline(row, share=False).length for row in rows))

        def apart(room: int) -> tuple[list[list[int]], list[int]]:
            found = fill_apart(lengths, room)
            return found, [sum(lengths[row] for row in members) for members in found]

        bins, sizes = _levelled(apart, sequence_len, lengths, PASS_TOKENS)
    return Packing(
        bins=tuple(map(tuple, bins)),
        sizes=array("q", sizes),
        capacity=sequence_len,
        row_tokens=sum(lengths),
        idle_rows=sum(not length for length in lengths),
    )


def _levelled(
    fill: Callable[[int], tuple[list[list[int]], list[int]]], capacity: int, lengths: Sequence[int], bin_cost: float
) -> tuple[list[list[int]], list[int]]:
    """What `fill` makes of `capacity`; where it is a few bins, made alike in size if that costs no more.

    First-fit leaves what is over to the last bin, and the rank that gets it waits for the others.
    """
    bins, sizes = fill(capacity)
    if not 1 < len(bins) <= LEVELLED_BINS:
        return bins, sizes
    room = max(max(lengths), math.ceil(LEVEL_SLACK * sum(sizes) / len(bins)))
    if room >= capacity:
        return bins, sizes
    level = fill(room)
    cheaper = sum(level[1]) + bin_cost * len(level[1]) <= sum(sizes) + bin_cost * len(sizes)
    return level if cheaper else (bins, sizes)


def lay_out_rows(rows: Sequence[Mapping[str, Any]], *, share_prefixes: bool = True) -> Bin:
    """Lay rows out in one bin whatever its length: what a bin of `pack_dataset` becomes when its turn has come."""
    return lay_out([trace_row(row) for row in rows], share=share_prefixes)


def pack_step(
    rows: Sequence[Mapping[str, Any]],
    sequence_len: int,
    *,
    share_prefixes: bool = True,
    pair_cost: float = 0.0,
    ranks: int = 1,
    together: bool = True,
    slack: float = 0.0,
    share_targets: bool = False,
    blocks: bool = False,
) -> list[list[Bin]]:
    """Lay the rows of one step out in the bins that cost least: one list of bins per rank, all of the same length.

    The mathematics of the step is unchanged: every row is computed once, with its own context only. Costs are counted
    in tokens, plus `pair_cost` (see `pair_cost_of`) for every pair of places in a bin, since masked attention computes
    them all; so few long bins are not always best. With `together` the bins of a rank are collated into one batch
    and each costs as much as the longest; without it they are computed one by one. slack: how much more than the least
    cost the smallest bins may take, as a share of it: one by one, small bins hold less memory. Bins are dealt to ranks
    largest first, each to the least loaded; a rank with fewer bins gets blank ones. share_targets: where rows begin
    alike, tokens to be predicted are stored once, too; for scoring. blocks: only pairs in blocks that anyone sees are
    computed, as by flex attention. Raises ValueError for a row that is longer than `sequence_len`.
    """
    traced = [trace_row(row) for row in rows]
    if share_targets:
        traced = [replace(row, shareable=row.length) for row in traced]
    longest = max((len(row.tokens) for row in traced), default=0)
    capacity = max(longest, min(sequence_len, sum(len(row.tokens) for row in traced)))
    if longest > sequence_len:
        capacity = sequence_len  # fill_bins names the row
    tried: list[tuple[float, list[list[Bin]]]] = []
    while True:
        members = fill_bins(traced, capacity, share=share_prefixes, min_shared=1)
        dealt = _deal([lay_out(traced, m, share=share_prefixes) for m in members], ranks, pair_cost, blocks)
        tried.append((max(_cost(bins, pair_cost, together, blocks) for bins in dealt), dealt))
        if capacity == longest:
            break
        capacity = max(longest, int(capacity / CAPACITY_STEP))
    least = min(cost for cost, _ in tried)
    if slack:
        tried.reverse()
    return next(dealt for cost, dealt in tried if cost <= least * (1 + slack))


def pair_cost_of(config: Any) -> float:
    """Operations of one attended pair over those of one token outside attention, from a model's configuration.

    Counts the linear layers of a dense decoder layer: 2 operations a weight and token, against 4 a pair and channel.
    """
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    hidden = config.hidden_size
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or hidden // heads)
    key_value = width // heads * (getattr(config, "num_key_value_heads", None) or heads)
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    weights = 2 * hidden * width + 2 * hidden * key_value + 3 * hidden * inner
    return float(2 * width / weights)


def _cost(bins: Sequence[Bin], pair_cost: float, together: bool, blocks: bool) -> float:
    lengths = [len(b) for b in bins]
    if together and lengths:
        lengths = [max(lengths)] * len(lengths)
    pairs = sum(computed_pairs(b.reach) for b in bins) if blocks else sum(n * n for n in lengths)
    return sum(lengths) + pair_cost * pairs + PASS_TOKENS * (1 if together else len(lengths))


def _deal(bins: Sequence[Bin], ranks: int, pair_cost: float, blocks: bool) -> list[list[Bin]]:
    dealt: list[list[Bin]] = [[] for _ in range(ranks)]
    load = [0.0] * ranks
    for b in sorted(bins, key=len, reverse=True):
        rank = load.index(min(load))
        dealt[rank].append(b)
        load[rank] += _cost([b], pair_cost, together=False, blocks=blocks)
    most = max(1, *(len(own) for own in dealt))
    return [own + [blank_bin()] * (most - len(own)) for own in dealt]
