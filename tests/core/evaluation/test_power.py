from __future__ import annotations

import pytest

from core.evaluation.statistics import items_needed, items_needed_binary, mcnemar, swaps


def test_items_for_two_paired_shares_follow_connors_formula() -> None:
    # (1.95996 sqrt(0.3) + 0.84162 sqrt(0.3 - 0.01))^2 / 0.01 = 233.1
    assert items_needed_binary(0.1, 0.3) == 234
    assert items_needed_binary(-0.1, 0.3) == 234


def test_fewer_items_than_the_exact_test_can_speak_about_are_not_named() -> None:
    assert items_needed_binary(1.0, 1.0) == 6
    assert mcnemar(6, 0) < 0.05 <= mcnemar(5, 0)
    assert items_needed_binary(0.9, 0.9) == 7


def test_items_for_a_mean_are_those_of_statsmodels() -> None:
    power = pytest.importorskip("statsmodels.stats.power")
    for difference, deviation in ((0.05, 0.3), (0.02, 0.5), (-0.3, 1.0)):
        expected = power.zt_ind_solve_power(
            effect_size=abs(difference) / deviation, alpha=0.05, power=0.8, ratio=0, alternative="two-sided"
        )
        assert items_needed(difference, deviation) == pytest.approx(expected, abs=1.0)


def test_smaller_differences_need_more_items() -> None:
    needed = [items_needed_binary(difference, 0.3) or 0 for difference in (0.3, 0.1, 0.03, 0.01)]
    assert needed == sorted(needed)
    assert needed[-1] > 20_000


@pytest.mark.parametrize(("difference", "discordant"), [(0.0, 0.3), (0.2, 0.1)])
def test_without_a_difference_no_number_is_named(difference: float, discordant: float) -> None:
    assert items_needed_binary(difference, discordant) is None
    assert items_needed(0.0, 1.0) is None
    assert items_needed(0.1, 0.0) is None


def test_swapping_answers_finds_a_difference_and_no_other() -> None:
    first, second = [1.0] * 12 + [0.0] * 8, [0.0] * 18 + [1.0] * 2

    def statistic(flags: list[bool]) -> float:
        mine = sum(b if flag else a for a, b, flag in zip(first, second, flags, strict=True))
        return mine - sum(a if flag else b for a, b, flag in zip(first, second, flags, strict=True))

    assert swaps(statistic, 20, seed=1) < 0.05
    assert swaps(lambda flags: 0.0, 20) == 1.0
    assert swaps(lambda flags: 1.0, 1) == 1.0
    assert swaps(lambda flags: 1.0, 20) == 1.0, "a statistic that swapping leaves alone shows nothing"
