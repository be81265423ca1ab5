from __future__ import annotations

import math
from dataclasses import replace

import pytest

from plugins.evaluators.perplexity import score, summarise
from tests.core.evaluation.making import make_item


def test_perplexity_of_one_item() -> None:
    scores = score("whatever", replace(make_item(), facts={"nll": 4 * math.log(3), "tokens": 4.0}), {})
    assert scores["perplexity"] == pytest.approx(3)
    assert scores["loss"] == pytest.approx(math.log(3))


def test_long_references_weigh_more() -> None:
    scores = [{"nll": 2.0, "tokens": 1.0}, {"nll": 3.0, "tokens": 9.0}]
    assert summarise(scores, {}) == {"perplexity": pytest.approx(math.exp(0.5)), "loss": 0.5, "tokens": 10.0}


def test_nothing_measured_means_no_score_and_hopeless_models_stay_finite() -> None:
    assert score("", make_item(), {}) == {}
    assert score("", replace(make_item(), facts={"nll": 0.0, "tokens": 0.0}), {}) == {}
    assert math.isfinite(score("", replace(make_item(), facts={"nll": 1e6, "tokens": 1.0}), {})["perplexity"])
