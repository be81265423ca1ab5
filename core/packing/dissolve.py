"""Fewer bins for no more work: those that pay less are dissolved into the room that the others have left.

Rows with a common prefix are packed as one block, and a block finds no room where a row of it would. So rows of a bin
go, one by one, to bins with room for them: best to one that holds most of their prefix, for what it does not hold is
computed once more. A bin goes only where that costs less than the bin itself. (Packing of items that share parts is
known from pages and virtual machines: Sindelar et al. 2011; bins taken up one at a time are ours.)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from itertools import accumulate

from core.packing.prefixes import fill_bins, prefix_tree, stored_tokens
from core.packing.rows import Outline, TracedRow

LEAST_SHARED = (1, 4, 8)  # tokens that make a block: blocks that share little hold room for more
LOOKED_AT = 64  # bins with little room to spare, of those that hold a prefix
MOST_ROWS = 100_000  # of the emptiest bins, where there are more

Rows = Sequence[TracedRow | Outline]


def cheapest_bins(rows: Rows, capacity: int, bin_cost: float) -> tuple[list[list[int]], list[int]]:
    """Row indices of each bin, and the tokens it stores: as by `fill_bins` with shared prefixes, where all these tokens
    plus `bin_cost` for each bin are fewer. Blocks made of longer prefixes only, and bins dissolved, are tried as well.

    Deterministic. Of many rows, those in the emptiest bins alone are packed anew. Raises ValueError as `fill_bins`.
    """
    bins, kept = fill_bins(rows, capacity, share=True), 0
    sizes = [stored_tokens([rows[row] for row in members]) for members in bins]
    if sum(map(len, bins)) > MOST_ROWS:
        order = sorted(range(len(bins)), key=lambda number: (-sizes[number], number))
        bins, sizes = [bins[number] for number in order], [sizes[number] for number in order]
        behind = list(accumulate(map(len, reversed(bins))))
        kept = len(bins) - bisect_right(behind, MOST_ROWS)
    best = bins, sizes
    chosen = sorted(row for members in bins[kept:] for row in members)
    for least in LEAST_SHARED:
        tried = bins[kept:]
        if least > 1:
            filled = fill_bins([rows[row] for row in chosen], capacity, share=True, min_shared=least)
            tried = [[chosen[index] for index in members] for members in filled]
        held = Held(rows, tried, capacity)
        for number in sorted(range(len(tried)), key=lambda number: (held.stored[number], number)):
            held.dissolve(number, bin_cost)
        left = [number for number, members in enumerate(held.bins) if members]
        found = (
            bins[:kept] + [held.bins[number] for number in left],
            sizes[:kept] + [held.stored[number] for number in left],
        )
        best = min(best, found, key=lambda one: sum(one[1]) + bin_cost * len(one[1]))
    return best


class Held:
    """Which bin holds which part of the tree of prefixes. bins: rows of each; stored: tokens of each."""

    def __init__(self, rows: Rows, bins: Sequence[Sequence[int]], capacity: int) -> None:
        self.rows, self.capacity = rows, capacity
        chosen = [row for members in bins for row in members]
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._above: list[int] = []  # -1 above the root, which covers nothing
        self._node = dict.fromkeys(chosen, 0)
        stack = [(prefix_tree([rows[row] for row in chosen], share=True), -1)]
        while stack:
            node, above = stack.pop()
            self._starts.append(node.start)
            self._ends.append(node.end)
            self._above.append(above)
            number = len(self._above) - 1
            self._node.update((chosen[index], number) for index in node.rows)
            stack += [(child, number) for child in node.children]
        self._holders: list[set[int]] = [set() for _ in self._above]
        self.bins = [list(members) for members in bins]
        self._parts: list[list[int]] = [[] for _ in bins]
        self.stored = [
            sum(self._put(row, number, self._parts[number]) for row in members) for number, members in enumerate(bins)
        ]
        self._room = sorted((capacity - stored, number) for number, stored in enumerate(self.stored))

    def dissolve(self, number: int, bin_cost: float) -> bool:
        """Give the rows of a bin to others, where the tokens computed then grow by less than `bin_cost`."""
        limit = self.stored[number] + bin_cost
        self._room.pop(bisect_left(self._room, (self.capacity - self.stored[number], number)))
        for part in self._parts[number]:
            self._holders[part].discard(number)
        moved: list[tuple[int, int, list[int]]] = []  # bin, tokens, and the parts it had not held
        spent = 0
        rows = sorted(self.bins[number], key=lambda row: (self._ends[self._node[row]] - self.rows[row].length, row))
        for row in rows:
            place = self._place(row, limit - spent)
            if place is None:
                break
            fresh: list[int] = []
            tokens = self._put(row, place, fresh)
            self._grow(place, tokens)
            self.bins[place].append(row)
            moved.append((place, tokens, fresh))
            spent += tokens
        if len(moved) == len(rows):
            for place, _, fresh in moved:
                self._parts[place] += fresh
            self.bins[number], self._parts[number], self.stored[number] = [], [], 0
            return True
        for place, tokens, fresh in reversed(moved):
            self.bins[place].pop()
            self._grow(place, -tokens)
            for part in fresh:
                self._holders[part].discard(place)
        for part in self._parts[number]:
            self._holders[part].add(number)
        insort(self._room, (self.capacity - self.stored[number], number))
        return False

    def _put(self, row: int, number: int, fresh: list[int]) -> int:
        """Note that a bin holds a row; returns the tokens that it has to store, and in `fresh` the parts new to it."""
        part = self._node[row]
        tokens = self.rows[row].length - self._ends[part]
        while part >= 0 and number not in self._holders[part]:
            self._holders[part].add(number)
            fresh.append(part)
            tokens += self._ends[part] - self._starts[part]
            part = self._above[part]
        return tokens

    def _place(self, row: int, limit: float) -> int | None:
        """The bin with room for a row that has to store least of it, fewer than `limit` tokens; of these, the fullest
        of those looked at."""
        part = self._node[row]
        while part >= 0:
            tokens = self.rows[row].length - self._ends[part]
            if tokens >= limit:
                return None
            holders = self._holders[part]
            if len(holders) <= LOOKED_AT:
                found = [(self.capacity - self.stored[number], number) for number in holders]
                found = [one for one in found if one[0] >= tokens]
            else:
                first = bisect_left(self._room, (tokens, -1))
                found = [one for one in self._room[first : first + LOOKED_AT] if one[1] in holders]
            if found:
                return min(found)[1]
            part = self._above[part]
        return None

    def _grow(self, number: int, tokens: int) -> None:
        room = self.capacity - self.stored[number]
        self._room.pop(bisect_left(self._room, (room, number)))
        self.stored[number] += tokens
        insort(self._room, (room - tokens, number))
