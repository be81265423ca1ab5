"""Bins of token counts: first-fit-decreasing, and the order in which an epoch visits the bins."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence


def first_fit_decreasing(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Put items into as few bins of `capacity` as first-fit-decreasing finds; returns the item indices of each bin.

    Largest first, ties in the given order, each into the first bin with room (Johnson 1973: at most 11/9 of the best
    number of bins, plus 6/9). Deterministic; O(n log n). Raises ValueError for an item larger than `capacity`.
    """
    import numpy as np

    # as arrays, this one and those below: millions of numbers that differ would each be an object
    order = array("q", np.argsort(-np.asarray(sizes, dtype=np.int64), kind="stable").astype(np.int64).tobytes())
    if order and sizes[order[0]] > capacity:
        raise ValueError(f"item {order[0]} has size {sizes[order[0]]}, more than the capacity of {capacity}")
    leaves = 1
    while leaves < len(sizes):
        leaves *= 2
    # Heap-shaped tournament tree: room[node] is the largest room in any bin below the node. Bins not yet opened have
    # full room, so the first bin with room is found by walking down from the root, left child first.
    room = array("q", [capacity]) * (2 * leaves)
    bins: list[list[int]] = []
    for item in order:
        size = sizes[item]
        node = 1
        while node < leaves:
            node *= 2
            if room[node] < size:
                node += 1
        place = node - leaves
        if place == len(bins):
            bins.append([])
        bins[place].append(item)
        room[node] -= size
        while node > 1:
            node //= 2
            left, right = room[2 * node], room[2 * node + 1]
            room[node] = left if left >= right else right
    return bins


def epoch_order(count: int, *, seed: int, epoch: int) -> list[int]:
    """The order in which epoch `epoch` (from 0) visits `count` bins; the same on every rank and after a resume."""
    order = list(range(count))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order
