from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.errors import UserError
from core.evaluation import evaluate
from core.types import GenerationRequest, Generator

COMPARE = ["base", "tuned"]


def one_by_one(request: GenerationRequest) -> list[list[int]]:
    """An engine of its own: transformers' generate, a prompt at a time, from the weights on disk."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(request.folder)
    answers = []
    for ids in request.prompts:
        out = model.generate(
            torch.tensor([list(ids)]),
            attention_mask=torch.ones((1, len(ids)), dtype=torch.long),
            max_new_tokens=request.max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(request.stop_ids),
            pad_token_id=0,
        )
        answers.append(out[0, len(ids) :].tolist())
    return answers


def test_another_engine_answers_as_cores_own_does(prepared: Any) -> None:
    plan, data, tokenizer = prepared({"compare": ["base"]}, adapter="full")
    model = plan.adapter.build(plan)
    own = evaluate(plan, model, tokenizer, data, ("base",)).columns["base"]
    engine = replace(plan.evaluation, generator=Generator("other", one_by_one))
    other = evaluate(replace(plan, evaluation=engine), model, tokenizer, data, ("base",)).columns["base"]
    assert [answer.text for answer in other.generations] == [answer.text for answer in own.generations]
    assert [answer.tokens for answer in other.generations] == [answer.tokens for answer in own.generations]
    assert other.metrics["accuracy"].value == own.metrics["accuracy"].value


def test_an_engine_that_loses_answers_is_refused(prepared: Any) -> None:
    plan, data, tokenizer = prepared({"compare": ["base"]}, adapter="full")
    engine = replace(plan.evaluation, generator=Generator("short", lambda request: [[1]]))
    with pytest.raises(UserError, match="'short' gave 1 answers to 12 prompts"):
        evaluate(replace(plan, evaluation=engine), plan.adapter.build(plan), tokenizer, data, ("base",))
