from __future__ import annotations

from dataclasses import replace

import pytest

from plugins.evaluators.latency import score, summarise
from tests.core.evaluation.making import make_item


def test_only_the_sample_is_scored() -> None:
    assert score("yes", make_item(), {}) == {}
    timed = replace(make_item(), facts={"seconds": 0.5, "tokens": 4.0})
    assert score("yes", timed, {}) == {"latency": 0.5, "tokens": 4.0}


def test_the_figures_by_hand() -> None:
    scores = [{"latency": second / 10, "tokens": 5.0} for second in range(1, 21)]
    assert summarise(scores, {}) == {
        "latency": pytest.approx(1.05),
        "p95": pytest.approx(1.9),
        "tokens_per_second": pytest.approx(100 / 21),
        "tokens_per_answer": pytest.approx(5.0),
    }


def test_one_item_is_its_own_percentile() -> None:
    assert summarise([{"latency": 2.0, "tokens": 4.0}], {})["p95"] == 2.0
