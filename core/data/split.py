"""Parts rows into training and validation, by seed, with duplicates on one side."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING

from core.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Ints = NDArray[np.int64]


def split(keys: ArrayLike, val_set_size: float, seed: int) -> tuple[Ints, Ints]:
    """(training, validation) indices of rows, both rising; rows of equal key stay on one side.

    val_set_size: below 1 the share of rows, else their number. Raises `DataError` if nothing would be left to train on.
    """
    import numpy as np

    keys = np.asarray(keys)
    wanted = val_set_size if val_set_size >= 1 else val_set_size * len(keys)
    count = max(1, round(wanted))
    if count >= len(keys):
        raise DataError(
            f"val_set_size {val_set_size:g} takes {count} of {len(keys)} examples: none would be left to train on",
            help="lower val_set_size, or add data",
        )
    _, first, group_of, sizes = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    # groups are numbered by where they first occur
    by_place = np.argsort(first)
    sizes = sizes[by_place]
    taken = np.zeros(len(sizes), dtype=bool)
    left = count
    for group in shuffled(len(sizes), seed).tolist():
        if sizes[group] <= left:
            taken[group] = True
            left -= int(sizes[group])
            if not left:
                break
    if left == count:
        raise DataError(
            f"no validation set of {count} can be split off: every example has more duplicates than that",
            help="raise val_set_size, remove duplicates, or name test_datasets",
        )
    number = np.empty_like(by_place)
    number[by_place] = np.arange(len(by_place))
    held_out = taken[number[group_of.reshape(-1)]]
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def shuffled(count: int, seed: int) -> Ints:
    """The numbers below `count` in an order drawn from `seed`."""
    import numpy as np

    order = array("q", range(count))
    random.Random(seed).shuffle(order)
    return np.frombuffer(order, dtype=np.int64)
