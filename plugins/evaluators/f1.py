"""What several metrics work out from their items' figures: F1 with precision and recall, and the mean of a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def f1_of(right: float, found: float, wanted: float) -> tuple[float, float, float]:
    """(F1, precision, recall) of `right` among as many as were `found` and `wanted`; all 1 where both are none."""
    if found + wanted == 0:
        return 1.0, 1.0, 1.0
    return 2 * right / (found + wanted), right / found if found else 0.0, right / wanted if wanted else 0.0


def mean_of(scores: Sequence[Mapping[str, float]], key: str) -> float:
    """The mean of one figure over the items, which all have it."""
    return math.fsum(one[key] for one in scores) / len(scores)
