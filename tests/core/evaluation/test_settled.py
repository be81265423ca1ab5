"""Answers cut short where no score can change: the scores stay what they are."""

from __future__ import annotations

from typing import Any

from core.evaluation import evaluate

# the tiny model answers with line breaks, which only letter-for-letter comparison tells from the start of a reference
METRICS = [{"type": "accuracy", "normalise": "none"}]


def scores(prepared: Any, **evaluation: Any) -> Any:
    plan, data, tokenizer = prepared(
        {"compare": ["base"], "metrics": METRICS, "max_new_tokens": 24, **evaluation}, adapter="full"
    )
    return evaluate(plan, plan.adapter.build(plan), tokenizer, data, ("base",)).columns["base"]


def test_no_score_changes_and_fewer_tokens_are_generated(prepared: Any) -> None:
    whole, cut = scores(prepared), scores(prepared, stop_settled=True)
    for name, result in whole.metrics.items():
        assert cut.metrics[name].scores == result.scores
        assert cut.metrics[name].summary == result.summary
    assert sum(answer.tokens for answer in cut.generations) < sum(answer.tokens for answer in whole.generations)
    assert cut.facts["settled"] > 0
    assert all(long.text.startswith(short.text) for long, short in zip(whole.generations, cut.generations, strict=True))


def test_a_metric_that_cannot_tell_lets_answers_run_on(prepared: Any) -> None:
    found = scores(prepared, stop_settled=True, metrics=[*METRICS, {"type": "token_f1"}])
    assert found.facts["settled"] == 0
