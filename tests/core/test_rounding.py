from __future__ import annotations

import math
from fractions import Fraction

import pytest

from core.evaluation.wording import _percent
from core.report.figures import figure, percent
from core.rounding import percent_of, rounded


@pytest.mark.parametrize("digits", [0, 1])
def test_every_share_of_up_to_200_items_is_rounded_as_by_hand(digits: int) -> None:
    unit = 10**digits
    for n in range(1, 201):
        for k in range(n + 1):
            by_hand = math.floor(Fraction(100 * k * unit, n) + Fraction(1, 2))
            assert percent_of(k / n, digits) == f"{by_hand / unit:.{digits}f}", (k, n)


def test_half_goes_away_from_zero_and_nothing_is_minus_zero() -> None:
    assert [percent_of(value, signed=True) for value in (0.125, -0.125, 0.6 - 0.475, -0.0001, 0.0)] == [
        "+13",
        "-13",
        "+13",
        "+0",
        "+0",
    ]
    assert rounded(2.675, 2) == "2.68"
    assert rounded(-0.04, 1) == "0.0"
    assert (rounded(math.nan), rounded(math.inf), rounded(-1e300)[:3]) == ("nan", "inf", "-10")


def test_verdict_and_table_round_alike() -> None:
    assert _percent(0.125) == "13"
    assert figure(0.125, "share") == "12.5 %"
    assert percent(0.00125) == "0.1 %"
    assert percent(1 / 16, 0) == "6 %"
    assert figure(0.125, "seconds") == "0.13 s"
