"""The interval of a mean where most scores are one and the same, as differences are where two columns mostly agree.

The bootstrap sees only the few scores that differ, drawn more or less often; it does not know that others like them
could have been among the items, and is too narrow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from core.evaluation.statistics import wilson

FEW = 50  # scores that differ; with as many, the bootstrap holds what it promises


def few_differ(scores: Sequence[float]) -> float | None:
    """The value that more than half of `scores` have, if some, but fewer than 50, have another; else None."""
    if not scores:
        return None
    value, count = Counter(scores).most_common(1)[0]
    return float(value) if 2 * count > len(scores) and 0 < len(scores) - count < FEW else None


def sparse_mean_interval(scores: Sequence[float], common: float, confidence: float) -> tuple[float, float]:
    """The mean is `common` + p m: p the share of scores that differ from it, m by how much they do on average.

    p has Wilson's interval, m Student's; the two are joined by squaring and adding how far each moves the product, as
    Newcombe (1998) does for a difference of shares (Zou and Donner, Stat. Med. 27, 2008). Where one score alone
    differs, half its size stands for the spread of such scores.
    """
    from scipy.stats import t

    others = [score - common for score in scores if score != common]
    n, k = len(scores), len(others)
    share, mean = k / n, math.fsum(others) / k
    spread = math.sqrt(math.fsum((one - mean) ** 2 for one in others) / (k - 1)) if k > 1 else abs(mean) / 2
    half = float(t.ppf(0.5 + confidence / 2, max(k - 1, 1))) * spread / math.sqrt(k)
    low, high = wilson(k, n, confidence)
    inwards, outwards = abs(mean) * (share - low), abs(mean) * (high - share)
    below, above = (inwards, outwards) if mean >= 0 else (outwards, inwards)
    centre = common + share * mean
    return centre - math.hypot(below, share * half), centre + math.hypot(above, share * half)
