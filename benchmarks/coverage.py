"""How often the 95 % intervals hold the truth, by enumeration and by simulation: the tables of docs/statistics.md.

    python benchmarks/coverage.py             the full tables, about five minutes on one core
    python benchmarks/coverage.py --quick     the sizes that the tests take

The functions are imported by tests/core/evaluation/test_coverage.py.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.evaluation.statistics import (
    bootstrap_mean,
    items_needed,
    items_needed_binary,
    mcnemar,
    newcombe_paired,
    permutation,
    wilson,
)

SIZES = (50, 110, 500)
GRID = tuple(round(step / 100, 2) for step in range(101))
SHARES = (0.0, 0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98, 1.0)
AGREEMENT = (0.0, 0.5, 0.9)  # between independent (0) and as alike as the two shares allow (1)


def wilson_coverage(n: int) -> dict[float, float]:
    """By share: the probability that Wilson's interval holds it, summed over all outcomes. No simulation."""
    intervals = [wilson(right, n) for right in range(n + 1)]
    return {
        share: float(
            sum(
                weight
                for weight, (low, high) in zip(binom.pmf(range(n + 1), n, share), intervals, strict=True)
                if low - 1e-12 <= share <= high + 1e-12
            )
        )
        for share in GRID
    }


def cells(first: float, second: float, agreement: float) -> list[float]:
    """Probabilities of both right, only the first, only the second, neither."""
    both = (1 - agreement) * first * second + agreement * min(first, second)
    return [both, first - both, second - both, max(0.0, 1 - first - second + both)]


def newcombe_coverage(n: int, draws: int, seed: int = 1) -> dict[tuple[float, float, float], float]:
    """By (first share, second share, agreement): how often Newcombe's interval holds the difference."""
    draw = np.random.default_rng(seed)
    found = {}
    for first, second, agreement in product(SHARES, SHARES, AGREEMENT):
        if second > first:
            continue  # the interval turns round with its columns
        hits, known = 0, {}
        for counts in draw.multinomial(n, cells(first, second, agreement), size=draws).tolist():
            key = tuple(counts)
            if key not in known:
                low, high = newcombe_paired(*key)
                known[key] = low - 1e-12 <= first - second <= high + 1e-12
            hits += known[key]
        found[first, second, agreement] = hits / draws
    return found


def _f1_like(draw: Any, n: int) -> Any:
    """Scores of many partly right answers: a tenth nothing, a third all, the rest between."""
    kind = draw.random(n)
    return np.where(kind < 0.1, 0.0, np.where(kind > 0.67, 1.0, draw.beta(2, 2, n)))


DISTRIBUTIONS: dict[str, tuple[Callable[[Any, int], Any], float]] = {
    "F1 of partly right answers": (_f1_like, 0.33 + 0.57 * 0.5),
    "losses (gamma, skewed)": (lambda draw, n: draw.gamma(2.0, 0.7, n), 1.4),
    "seconds (lognormal, long tail)": (lambda draw, n: draw.lognormal(0.0, 0.6, n), math.exp(0.18)),
    "paired differences (normal)": (lambda draw, n: draw.normal(0.05, 0.3, n), 0.05),
    "paired differences, nine of ten zero": (
        lambda draw, n: np.where(draw.random(n) < 0.9, 0.0, draw.normal(0.3, 0.5, n)),
        0.03,
    ),
    "paired differences, 24 of 25 zero": (
        lambda draw, n: np.where(draw.random(n) < 0.96, 0.0, draw.normal(0.3, 0.5, n)),
        0.012,
    ),
    "paired differences, nine of ten zero, skewed": (
        lambda draw, n: np.where(draw.random(n) < 0.9, 0.0, draw.exponential(0.4, n)),
        0.04,
    ),
}


def mean_coverage(name: str, n: int, draws: int, seed: int = 1) -> float:
    """How often the interval of the mean holds it: BCa, or that of few differing scores. Samples in which nothing
    differs have none, and are not counted."""
    sample, mean = DISTRIBUTIONS[name]
    draw = np.random.default_rng(seed)
    hits = given = 0
    for number in range(draws):
        interval = bootstrap_mean(sample(draw, n).tolist(), seed=number)
        if interval is not None:
            given += 1
            hits += interval[0] <= mean <= interval[1]
    return hits / given


def power_of_mcnemar(first: float, second: float, agreement: float, draws: int, seed: int = 1) -> tuple[int, float]:
    """The items said to be needed, and how often McNemar's exact test shows the difference with so many."""
    _, only_first, only_second, _ = shares = cells(first, second, agreement)
    needed = items_needed_binary(first - second, only_first + only_second)
    assert needed is not None
    draw = np.random.default_rng(seed)
    tables: Sequence[Sequence[int]] = draw.multinomial(needed, shares, size=draws).tolist()
    return needed, sum(mcnemar(counts[1], counts[2]) < 0.05 for counts in tables) / draws


def power_of_means(difference: float, deviation: float, draws: int, seed: int = 1) -> tuple[int, float]:
    """The items said to be needed, and how often sign flips show the difference with so many."""
    needed = items_needed(difference, deviation)
    assert needed is not None
    draw = np.random.default_rng(seed)
    shown = sum(permutation(draw.normal(difference, deviation, needed).tolist()) < 0.05 for _ in range(draws))
    return needed, shown / draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the sizes of the tests")
    quick = parser.parse_args().quick
    print("| n | mean | lowest | at a share of | at 0 % and 100 % |\n|---|---|---|---|---|")
    for n in SIZES:
        found = wilson_coverage(n)
        low = min(found, key=lambda share: found[share])
        ends = f"{100 * found[0.0]:.1f} %, {100 * found[1.0]:.1f} %"
        print(f"| {n} | {100 * np.mean(list(found.values())):.1f} % | {100 * found[low]:.1f} % | {low:g} | {ends} |")
    print("\n| n | cells | mean | lowest | at (first, second, agreement) |\n|---|---|---|---|---|")
    for n in SIZES:
        paired = newcombe_coverage(n, 400 if quick else 4000)
        least = min(paired, key=lambda key: paired[key])
        mean = 100 * float(np.mean(list(paired.values())))
        print(f"| {n} | {len(paired)} | {mean:.1f} % | {100 * paired[least]:.1f} % | {least} |")
    print("\n| scores | n = 50 | n = 110 | n = 500 |\n|---|---|---|---|")
    for name in DISTRIBUTIONS:
        shares = [mean_coverage(name, n, 100 if quick else 2000) for n in SIZES]
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |")
    print("\n| difference | items needed | shown in |\n|---|---|---|")
    for first, second, agreement in ((0.5, 0.4, 0.5), (0.8, 0.75, 0.7), (0.2, 0.1, 0.0), (0.95, 0.9, 0.5)):
        needed, power = power_of_mcnemar(first, second, agreement, 400 if quick else 4000)
        print(
            f"| {100 * second:.0f} % to {100 * first:.0f} %, agreement {agreement} | {needed} | {100 * power:.1f} % |"
        )
    for difference, deviation in ((0.05, 0.3), (0.1, 0.3)):
        needed, power = power_of_means(difference, deviation, 100 if quick else 600)
        print(f"| mean {difference} with deviation {deviation} | {needed} | {100 * power:.1f} % |")


if __name__ == "__main__":
    main()
