from __future__ import annotations

import pytest

from core.evaluation.sparse import few_differ, sparse_mean_interval
from core.evaluation.statistics import bootstrap_mean, wilson


def test_when_few_scores_differ() -> None:
    assert few_differ([0.0] * 9 + [0.5]) == 0.0
    assert few_differ([1.0] * 9 + [0.5]) == 1.0
    assert few_differ([0.0] * 10) is None, "none does"
    assert few_differ([0.0, 0.0, 0.5, 0.7]) is None, "no value has more than half"
    assert few_differ([0.0] * 100 + [0.5] * 50) is None, "many do"
    assert few_differ([]) is None


def test_scores_that_differ_alike_have_the_interval_of_their_share() -> None:
    low, high = wilson(5, 50)
    assert sparse_mean_interval([0.0] * 45 + [0.4] * 5, 0.0, 0.95) == pytest.approx((0.4 * low, 0.4 * high))
    assert sparse_mean_interval([1.0] * 45 + [0.6] * 5, 1.0, 0.95) == pytest.approx((1 - 0.4 * high, 1 - 0.4 * low))


def test_the_interval_turns_round_with_the_scores_and_holds_the_mean() -> None:
    scores = [0.0] * 40 + [0.5, -0.1, 0.7, 0.2]
    low, high = sparse_mean_interval(scores, 0.0, 0.95)
    assert low < sum(scores) / len(scores) < high
    turned = sparse_mean_interval([-score for score in scores], 0.0, 0.95)
    assert turned == pytest.approx((-high, -low))
    narrow = sparse_mean_interval(scores, 0.0, 0.5)
    assert low < narrow[0] < narrow[1] < high
    assert bootstrap_mean(scores) == (low, high)


def test_one_score_alone_shows_nothing() -> None:
    low, high = sparse_mean_interval([0.0] * 49 + [0.5], 0.0, 0.95)
    assert low < 0 < 0.01 < high
