"""Parts rows into training and validation, by seed, with duplicates on one side."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence

from core.errors import DataError


def split(keys: Sequence[Hashable], val_set_size: float, seed: int) -> tuple[list[int], list[int]]:
    """(training, validation) indices of rows; rows of equal key stay on one side.

    val_set_size: below 1 the share of rows, else their number. Raises `DataError` if nothing would be left to train on.
    """
    wanted = val_set_size if val_set_size >= 1 else val_set_size * len(keys)
    count = max(1, round(wanted))
    if count >= len(keys):
        raise DataError(
            f"val_set_size {val_set_size:g} takes {count} of {len(keys)} examples: none would be left to train on",
            help="lower val_set_size, or add data",
        )
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    shuffled = list(groups.values())
    random.Random(seed).shuffle(shuffled)
    held_out: list[int] = []
    for group in shuffled:
        if len(held_out) + len(group) <= count:
            held_out += group
    if not held_out:
        raise DataError(
            f"no validation set of {count} can be split off: every example has more duplicates than that",
            help="raise val_set_size, remove duplicates, or name test_datasets",
        )
    taken = set(held_out)
    return [index for index in range(len(keys)) if index not in taken], sorted(held_out)


def shuffled(count: int, seed: int) -> list[int]:
    """The numbers below `count` in an order drawn from `seed`."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order
