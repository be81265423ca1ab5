from __future__ import annotations

import math

import numpy as np
import pytest

from core.evaluation.statistics import (
    bootstrap,
    bootstrap_mean,
    counts_of,
    holm,
    interval_of,
    is_binary,
    mcnemar,
    newcombe_paired,
    permutation,
    wilson,
)

GRID = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 10), (78, 110), (110, 110), (3, 7)])
def test_wilson_is_that_of_statsmodels(successes: int, n: int) -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    expected = proportion.proportion_confint(successes, n, method="wilson")
    assert wilson(successes, n) == pytest.approx(expected, abs=1e-9)


def test_wilson_has_width_at_the_ends_and_stays_inside() -> None:
    assert wilson(0, 20) == (0.0, pytest.approx(0.1611, abs=1e-4))
    assert wilson(20, 20) == (pytest.approx(0.8389, abs=1e-4), 1.0)
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="5 successes of 4"):
        wilson(5, 4)


@pytest.mark.parametrize("n", [50, 110, 500])
def test_wilson_covers_95_per_cent(n: int) -> None:
    covered = []
    for p in GRID:
        weights = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        covered.append(sum(w for k, w in enumerate(weights) if wilson(k, n)[0] - 1e-12 <= p <= wilson(k, n)[1] + 1e-12))
    assert min(covered) > 0.90
    assert 0.93 < sum(covered) / len(covered) < 0.99


def test_newcombe_is_that_of_the_paper() -> None:
    # the first example of the paper's table II: 36, 12, 2, 0
    assert newcombe_paired(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_newcombe_turns_round_with_the_columns() -> None:
    low, high = newcombe_paired(20, 9, 3, 10)
    assert newcombe_paired(20, 3, 9, 10) == pytest.approx((-high, -low))


def test_newcombe_without_any_difference_has_width() -> None:
    low, high = newcombe_paired(0, 0, 0, 110)
    assert low == pytest.approx(-high)
    assert 0.02 < high < 0.05
    assert newcombe_paired(0, 0, 0, 0) == (-1.0, 1.0)


@pytest.mark.parametrize("n", [50, 110, 500])
def test_newcombe_covers_95_per_cent(n: int) -> None:
    draw = np.random.default_rng(3)
    covered = []
    for first, second, overlap in [
        (0.7, 0.1, 0.5),
        (0.5, 0.5, 0.9),
        (0.9, 0.6, 0.5),
        (0.95, 0.9, 0.7),
        (0.3, 0.2, 0.3),
    ]:
        both = overlap * min(first, second)
        cells = [both, first - both, second - both, 1 - first - second + both]
        if cells[3] < 0:
            both = first + second - 1
            cells = [both, first - both, second - both, 0.0]
        hits = 0
        for drawn in draw.multinomial(n, cells, size=600):
            low, high = newcombe_paired(*map(int, drawn))
            hits += low <= first - second <= high
        covered.append(hits / 600)
    assert min(covered) > 0.90
    assert 0.93 < sum(covered) / len(covered) < 0.98


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (5, 0), (10, 2), (7, 7), (30, 12)])
def test_mcnemar_is_that_of_statsmodels(only_first: int, only_second: int) -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    expected = tables.mcnemar([[3, only_first], [only_second, 4]], exact=True).pvalue if only_first else 1.0
    assert mcnemar(only_first, only_second) == pytest.approx(expected)


def test_holm_is_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    values = [0.01, 0.04, 0.03, 0.9, 0.001]
    assert holm(values) == pytest.approx(list(multitest.multipletests(values, method="holm")[1]))
    assert holm([]) == []


def test_the_bootstrap_is_scipys_bca() -> None:
    from scipy.stats import bootstrap as scipy_bootstrap

    values = np.random.default_rng(0).exponential(size=60)
    expected = scipy_bootstrap(
        (values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert bootstrap_mean(values.tolist()) == pytest.approx((expected.low, expected.high), abs=0.05)


def test_the_bootstrap_repeats_with_its_seed_and_takes_any_statistic() -> None:
    values = [0.1, 0.5, 0.9, 0.2, 0.4, 0.8, 0.3]

    def median(indices: list[int]) -> float:
        return float(np.median([values[index] for index in indices]))

    assert bootstrap(median, len(values), seed=5) == bootstrap(median, len(values), seed=5)
    low, high = bootstrap(median, len(values), seed=5) or (0.0, 0.0)
    assert 0.1 <= low < 0.4 < high <= 0.9


def test_the_bootstrap_of_a_constant_has_no_interval() -> None:
    assert bootstrap_mean([0.5, 0.5, 0.5]) is None
    assert bootstrap_mean([0.5]) is None
    assert bootstrap_mean([]) is None


def test_the_bootstrap_of_many_items_is_quick_and_narrow() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    low, high = bootstrap_mean(values.tolist()) or (0.0, 0.0)
    assert low < values.mean() < high < low + 0.1


def test_permutation_counts_sign_flips() -> None:
    assert permutation([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(2 / 2**6)
    assert permutation([0.3, -0.3, 0.2, -0.2]) > 0.5
    assert permutation([0.0, 0.0]) == 1.0
    assert permutation([0.3]) == 1.0


def test_right_wrong_scores_take_wilson_and_others_the_bootstrap() -> None:
    assert is_binary([0.0, 1.0, 1.0])
    assert not is_binary([0.0, 0.5])
    assert interval_of([1.0, 0.0, 1.0]) == wilson(2, 3)
    assert interval_of([0.1, 0.4, 0.9]) == bootstrap_mean([0.1, 0.4, 0.9])
    assert interval_of([]) is None


def test_counts_of_pairs() -> None:
    assert counts_of([1.0, 1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0, 0.0]) == (1, 2, 1, 1)
