"""Intervals and tests for scores on held-out items: each figure alone, and two columns on the same items.

Right/wrong scores have intervals that keep their width at 0 % and 100 %; other scores use the bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

CONFIDENCE = 0.95
POWER = 0.8  # of finding a difference that is there, for the number of items needed
RESAMPLES = 2000
# Above this many items the jackknife that BCa needs costs more than its correction is worth.
BCA_LIMIT = 2000
AT_ONCE = 4_000_000  # drawn values held at a time


def is_binary(scores: Sequence[float]) -> bool:
    """Whether every score is exactly 0 or 1."""
    return all(score in (0.0, 1.0) for score in scores)


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927); (0, 1) where n is 0."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return 0.0, 1.0
    z = _z(confidence)
    p, shrink = successes / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / shrink
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return max(0.0, low), min(1.0, high)


def newcombe_paired(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Interval of p_first - p_second for right/wrong scores on the same items: method 10 of Newcombe, "Improved
    confidence intervals for the difference between binomial proportions based on paired data", Stat. Med. 17 (1998).

    both, only_first, only_second, neither: how many items the two columns get right.
    """
    n = both + only_first + only_second + neither
    if n == 0:
        return -1.0, 1.0
    first, second = both + only_first, both + only_second
    p1, p2 = first / n, second / n
    low1, high1 = wilson(first, n, confidence)
    low2, high2 = wilson(second, n, confidence)
    product = float(both * neither - only_first * only_second)
    if product > 0:
        product = max(product - n / 2, 0.0)  # continuity correction of the correlation
    margins = first * (n - first) * second * (n - second)
    phi = product / math.sqrt(margins) if margins else 0.0
    below = _combine(p1 - low1, high2 - p2, phi)
    above = _combine(high1 - p1, p2 - low2, phi)
    return max(-1.0, p1 - p2 - below), min(1.0, p1 - p2 + above)


def _combine(first: float, second: float, phi: float) -> float:
    return math.sqrt(max(0.0, first * first - 2 * phi * first * second + second * second))


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value (McNemar 1947) that two columns are right equally often; 1 where they never differ."""
    from scipy.stats import binomtest

    n = only_first + only_second
    return float(binomtest(only_first, n, 0.5).pvalue) if n else 1.0


def bootstrap(
    statistic: Callable[[Sequence[int]], float], n: int, *, seed: int = 0, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Bias-corrected accelerated interval (Efron 1987) of `statistic`, a function of the indices of the items drawn.

    None where there is nothing to resample: fewer than two items, or a statistic that never changes. Above
    `BCA_LIMIT` items the percentile interval is taken instead.
    """
    import numpy as np

    return _resampled(np.arange(n), lambda indices: statistic(indices.tolist()), seed, confidence, vectorized=False)


def bootstrap_mean(
    scores: Sequence[float], *, seed: int = 0, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """`bootstrap` of the mean of `scores`, computed on whole arrays; where most scores are the same and few differ, the
    interval of `core.evaluation.sparse` instead."""
    import numpy as np

    from core.evaluation.sparse import few_differ, sparse_mean_interval

    if len(scores) > 1 and (common := few_differ(scores)) is not None:
        return sparse_mean_interval(scores, common, confidence)
    return _resampled(np.asarray(scores, dtype=float), np.mean, seed, confidence, vectorized=True)


def _resampled(
    values: Any, statistic: Callable[..., Any], seed: int, confidence: float, *, vectorized: bool
) -> tuple[float, float] | None:
    import warnings

    import numpy as np
    from scipy.stats import DegenerateDataWarning
    from scipy.stats import bootstrap as resample

    n = len(values)
    if n < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # answered by returning None
        warnings.simplefilter("ignore", RuntimeWarning)
        result = resample(
            (values,),
            statistic,
            vectorized=vectorized,
            n_resamples=RESAMPLES if n <= BCA_LIMIT else RESAMPLES // 4,
            batch=max(1, AT_ONCE // n),
            confidence_level=confidence,
            method="BCa" if n <= BCA_LIMIT else "percentile",
            rng=np.random.default_rng(seed),
        )
    low, high = float(result.confidence_interval.low), float(result.confidence_interval.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def permutation(differences: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p-value that paired differences are as often up as down (sign flips; exact for few items)."""
    import numpy as np
    from scipy.stats import permutation_test

    values = np.asarray(differences, dtype=float)
    if len(values) < 2 or not values.any():
        return 1.0
    result = permutation_test(
        (values,),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def swaps(statistic: Callable[[Sequence[bool]], float], n: int, *, seed: int = 0, resamples: int = 999) -> float:
    """Two-sided p-value that two columns are alike, by swapping their answers to an item at random.

    statistic: of the columns with the items swapped that its argument marks.
    """
    import numpy as np

    if n < 2:
        return 1.0
    observed = abs(statistic([False] * n))
    if not observed:
        return 1.0
    draw = np.random.default_rng(seed)
    drawn = (abs(statistic((draw.random(n) < 0.5).tolist())) for _ in range(resamples))
    return (1 + sum(value >= observed * (1 - 1e-12) for value in drawn)) / (resamples + 1)


def items_needed_binary(
    difference: float, discordant: float, *, level: float = 1 - CONFIDENCE, power: float = POWER
) -> int | None:
    """Items for McNemar's test to show a `difference` of two shares, `discordant` being the share of items that one
    column gets right and the other wrong: Connor, "Sample size for testing differences in proportions for
    the paired-sample design", Biometrics 43 (1987), after Miettinen (1968). Never fewer than give the exact test
    the differing items without which its p-value cannot fall below `level`. None where there is no difference.
    """
    if not difference or discordant < abs(difference):
        return None
    rest = max(discordant - difference * difference, 0.0)
    root = _z(1 - level) * math.sqrt(discordant) + _z_one_sided(power) * math.sqrt(rest)
    differing = math.floor(1 - math.log2(level)) + 1  # all one way: p = 2 / 2^differing
    return max(math.ceil((root / difference) ** 2), math.ceil(differing / discordant))


def items_needed(
    difference: float, deviation: float, *, level: float = 1 - CONFIDENCE, power: float = POWER
) -> int | None:
    """Items to show a mean paired `difference` whose standard deviation over the items is `deviation`, by the normal
    approximation: ((z_level/2 + z_power) deviation / difference)^2 (Cohen, "Statistical Power Analysis", 1988, ch. 2).
    None where there is no difference, or nothing varies.
    """
    if not difference or not deviation:
        return None
    return max(2, math.ceil(((_z(1 - level) + _z_one_sided(power)) * deviation / difference) ** 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, worst = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def _z(confidence: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _z_one_sided(probability: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def interval_of(scores: Sequence[float], *, seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of a mean: Wilson for right/wrong scores, bootstrap otherwise; None where there is none."""
    if not scores:
        return None
    if is_binary(scores):
        return wilson(round(sum(scores)), len(scores))
    return bootstrap_mean(scores, seed=seed)


def counts_of(first: Sequence[float], second: Sequence[float]) -> tuple[int, int, int, int]:
    """(both, only first, only second, neither) of two right/wrong columns on the same items."""
    pairs: list[tuple[Any, Any]] = list(zip(first, second, strict=True))
    return (
        pairs.count((1.0, 1.0)),
        pairs.count((1.0, 0.0)),
        pairs.count((0.0, 1.0)),
        pairs.count((0.0, 0.0)),
    )
