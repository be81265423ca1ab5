"""Mixes data sets by their weights: how often each training example occurs in one pass over the data."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


def weight_of(options: Mapping[str, Any]) -> float:
    """The weight of a data set with these options; 1 where they set none."""
    return float(options.get("weight") or 1)


def weighted(rows: Ints, weight: float, seed: int, number: int, name: str) -> Ints:
    """`rows` of one data set as often as `weight` says: round(weight * their number) in all.

    Each occurs as often as the whole part of the weight; which ones occur once more is drawn from `seed` and the
    data set's `number`, so that another data set does not change it. Raises `DataError` if none is left.
    """
    import numpy as np

    if weight == 1 or not len(rows):
        return rows
    count = round(weight * len(rows))
    if not count:
        raise DataError(
            f"weight {weight:g} leaves none of the {len(rows):,} examples of {name}",
            help="raise it, or take the data set out",
        )
    times, more = divmod(count, len(rows))
    drawn = random.Random(f"{seed}/{number}").sample(range(len(rows)), more)
    return np.concatenate([*[rows] * times, rows[np.array(sorted(drawn), dtype=np.int64)]])
