from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from core.data import encode_prompt
from core.errors import DataError
from core.evaluation import batches
from core.evaluation import generate as generation
from core.evaluation.generate import (
    Decoding,
    common_prefix,
    context_length,
    end_of_turn,
    generate,
    make_decoding,
    refuse_long_prompts,
)
from core.evaluation.greedy import make_decoder
from tests.core.evaluation.making import make_items
from tests.core.evaluation.test_greedy import CONFIGS, STOPS, make_model, make_rows, one_by_one


def test_answers_come_in_item_order_whatever_the_batch_size(tokenizer: Any) -> None:
    model = make_model(CONFIGS["qwen3"])
    prefix, rows = make_rows()
    prompts = [prefix + row for row in rows]
    expected = [len(answer) for answer in one_by_one(model, prompts)]
    for size in (1, 2, 3, 100):
        decoding = Decoding(STOPS, 0, 16, size)
        answers = generate(make_decoder(model), tokenizer, prompts, decoding)
        assert [answer.tokens for answer in answers] == expected
        assert [answer.stopped for answer in answers] == [tokens < 16 for tokens in expected]


def test_ranks_share_the_batches_of_one_process(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> None:
    model = make_model(CONFIGS["qwen3"])
    prefix, rows = make_rows()
    prompts, decoding = [prefix + row for row in rows], Decoding(STOPS, 0, 16, 2)
    alone = generate(make_decoder(model), tokenizer, prompts, decoding)
    calls: list[list[int]] = []
    parts: list[Any] = []
    real = generation.greedy

    def counted(decoder: Any, rows: Any, **settings: Any) -> Any:
        calls[-1].append(len(rows))
        return real(decoder, rows, **settings)

    monkeypatch.setattr(generation, "greedy", counted)
    monkeypatch.setattr(batches, "world_size", lambda: 3)
    for rank in range(3):
        calls.append([])
        monkeypatch.setattr(batches, "rank", lambda rank=rank: rank)
        # a rank sees only its own answers here: gathering is put off
        monkeypatch.setattr(batches, "gather_objects", lambda found: parts.extend(found) or _filled(found, prompts))
        generate(make_decoder(model), tokenizer, prompts, decoding)
    assert calls == [[2, 1], [2], [2]]
    assert [generation.to_generation(ids, tokenizer, decoding) for _, ids in sorted(parts)] == alone

    calls.clear()
    monkeypatch.setattr("core.evaluation.greedy._anyone", lambda running, decoder: running)
    for rank in range(3):
        calls.append([])
        monkeypatch.setattr(batches, "rank", lambda rank=rank: rank)
        generate(dataclasses.replace(make_decoder(model), synced=True), tokenizer, prompts, decoding)
    assert [len(made) for made in calls] == [2, 2, 2], "with spread weights every rank makes the same number of calls"


def _filled(found: list[Any], prompts: list[Any]) -> list[Any]:
    return [*((index, [0]) for index in range(len(prompts))), *found]


def test_common_prefix_leaves_every_prompt_a_token() -> None:
    assert common_prefix([[1, 2, 3], [1, 2, 4, 5]]) == [1, 2]
    assert common_prefix([[1, 2], [1, 2, 4]]) == [1]
    assert common_prefix([[1, 2, 3]]) == [1, 2]
    assert common_prefix([[1], [2]]) == []
    assert common_prefix([]) == []


def test_stops_are_gathered_from_everywhere(prepared: Any, model: Any) -> None:
    plan, _, tokenizer = prepared({}, eot_tokens=["<|im_start|>"])
    inner = make_model(CONFIGS["qwen3"])
    inner.generation_config.eos_token_id = [7, 8]
    found = make_decoding(plan, inner, tokenizer)
    assert found.stop_ids == {1, 7, 8, *tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])}
    assert found.pad_id == tokenizer.pad_token_id


def test_the_end_of_turn_is_read_from_the_template(tokenizer: Any) -> None:
    assert end_of_turn(tokenizer) == "<|im_end|>"
    assert end_of_turn(SimpleNamespace(chat_template=None)) is None  # type: ignore[arg-type]


def test_an_answer_keeps_special_tokens_but_the_last(tokenizer: Any) -> None:
    stop, mark = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])
    decoding = Decoding(frozenset({stop}), 0, 8, 1)
    ids = encode_prompt("yes", tokenizer)
    answer = generation.to_generation([*ids, mark, *ids, stop], tokenizer, decoding)
    assert (answer.text, answer.stopped, answer.tokens) == ("yes<|im_start|>yes", True, 2 * len(ids) + 2)
    assert generation.to_generation(ids, tokenizer, decoding).stopped is False


def test_prompts_beyond_the_context_are_all_counted() -> None:
    items = make_items("a", "b", "c")
    refuse_long_prompts("base", items, [[1] * 10, [1] * 12, [1] * 8], None, 100)
    refuse_long_prompts("base", items, [[1] * 10, [1] * 12, [1] * 8], 20, 8)
    with pytest.raises(DataError, match=r"2 of 3 prompts of the column 'base'.*leaves 9: test.jsonl:2 \(12 tokens\)"):
        refuse_long_prompts("base", items, [[1] * 10, [1] * 12, [1] * 8], 20, 11)
    with pytest.raises(DataError) as caught:
        refuse_long_prompts("prompted", items, [[1] * 10] * 3, 16, 8, asked=True)
    assert "fewer shots" in (caught.value.help or "")


def test_the_context_is_the_models(model: Any) -> None:
    assert context_length(model.config) == 2048
    assert context_length(CONFIGS["gpt2"]) == 256
    assert context_length(CONFIGS["mamba"]) is None
