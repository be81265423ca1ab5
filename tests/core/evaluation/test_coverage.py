"""The intervals hold the truth as often as they say; the full tables are in docs/statistics.md."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def _load() -> Any:
    path = Path(__file__).parents[3] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_simulation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


simulation = _load()


@pytest.mark.parametrize("n", [50, 110, 500])
def test_the_interval_of_a_share_covers_95_per_cent(n: int) -> None:
    found = simulation.wilson_coverage(n)
    assert len(found) == 101
    assert 0.93 <= np.mean(list(found.values())) <= 0.97
    assert min(found.values()) >= 0.90
    assert found[0.0] == pytest.approx(1.0)
    assert found[1.0] == pytest.approx(1.0)


@pytest.mark.parametrize("n", [50, 110, 500])
def test_the_interval_of_a_paired_difference_covers_95_per_cent(n: int) -> None:
    found = simulation.newcombe_coverage(n, draws=400)
    assert len(found) == 198
    assert 0.93 <= np.mean(list(found.values())) <= 0.97
    # 400 draws: one standard error is 1.1 points at 95 %
    assert min(found.values()) >= 0.90
    assert found[0.0, 0.0, 0.5] == found[1.0, 1.0, 0.5] == 1.0


def test_the_bootstrap_of_a_mean_covers_95_per_cent() -> None:
    # one standard error: 0.6 points
    assert 0.93 <= simulation.mean_coverage("F1 of partly right answers", 110, draws=1200) <= 0.97


@pytest.mark.parametrize("n", [50, 110])
@pytest.mark.parametrize(
    ("scores", "lowest"),
    [
        ("paired differences, nine of ten zero", 0.93),
        ("paired differences, 24 of 25 zero", 0.93),
        ("paired differences, nine of ten zero, skewed", 0.90),
    ],
)
def test_the_interval_where_few_items_differ_covers_95_per_cent(scores: str, lowest: float, n: int) -> None:
    # one standard error: 0.5 points
    assert lowest <= simulation.mean_coverage(scores, n, draws=2000) <= 0.97


def test_as_many_items_as_needed_show_the_difference_four_times_in_five() -> None:
    needed, power = simulation.power_of_mcnemar(0.8, 0.7, 0.5, draws=1500)
    assert needed == 186
    # the exact test is a little less ready to reject than the formula takes it to be; one standard error: 1.1 points
    assert 0.75 <= power <= 0.82
    needed, power = simulation.power_of_means(0.1, 0.3, draws=200)
    assert needed == 71
    # one standard error: 2.8 points
    assert 0.74 <= power <= 0.86
