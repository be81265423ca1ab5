from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, MambaConfig, MistralConfig, MptConfig, Qwen3Config

from core.errors import UserError
from core.evaluation import greedy as module
from core.evaluation.greedy import greedy, innermost, is_sharded, make_decoder, share_prefix

STOPS = frozenset(range(0, 300, 12))  # often enough that rows end at different steps
SMALL = {"vocab_size": 300, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def make_rows(seed: int = 0, *, prefix: int = 24) -> tuple[list[int], list[list[int]]]:
    draw = random.Random(seed)
    return [draw.randrange(3, 300) for _ in range(prefix)], [
        [draw.randrange(3, 300) for _ in range(draw.randrange(1, 20))] for _ in range(7)
    ]


def one_by_one(model: Any, prompts: list[list[int]], *, stops: Any = STOPS, new: int = 16) -> list[list[int]]:
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=sorted(stops),
            pad_token_id=0,
        )
        answers.append(output[0, ids.shape[1] :].tolist())
    return answers


def make_model(config: Any, seed: int = 1) -> Any:
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:  # as drawn, a random model says the same token again and again
            torch.nn.init.normal_(parameter, std=0.2)
    return model


CONFIGS = {
    "qwen3": Qwen3Config(**SMALL, **SIZES, head_dim=8),
    "mistral with a sliding window": MistralConfig(**SMALL, **SIZES, sliding_window=16),
    "gpt2": GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=256, eos_token_id=1, bos_token_id=2),
    "mpt": MptConfig(vocab_size=300, d_model=32, n_layers=2, n_heads=4, max_seq_len=256),
    "mamba": MambaConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, eos_token_id=1, pad_token_id=0, bos_token_id=2
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_batch_gives_what_generate_gives_one_by_one(name: str) -> None:
    model = make_model(CONFIGS[name])
    prefix, rows = make_rows()
    expected = one_by_one(model, [prefix + row for row in rows])
    assert len({len(answer) for answer in expected}) > 1, "the rows should end at different steps"
    decoder = make_decoder(model)
    settings: dict[str, Any] = {"stop_ids": STOPS, "pad_id": 0, "max_new_tokens": 16}
    assert greedy(decoder, [prefix + row for row in rows], **settings) == expected
    if decoder.shareable:
        assert greedy(decoder, rows, prefix=share_prefix(decoder, prefix), **settings) == expected


@pytest.mark.parametrize("name", ["qwen3", "gpt2"])
def test_prompts_computed_in_groups_of_like_length_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(CONFIGS[name])
    draw = random.Random(5)
    prefix, _ = make_rows(5)
    rows = [[draw.randrange(3, 300) for _ in range(length)] for length in (30, 29, 9, 8, 8, 3, 1)]
    monkeypatch.setitem(module.PADDING, "cpu", 10)
    assert len(module._groups([len(row) for row in rows], 10)) > 2
    decoder = make_decoder(model)
    shared = share_prefix(decoder, prefix)
    answers = greedy(decoder, rows, prefix=shared, stop_ids=STOPS, pad_id=0, max_new_tokens=16)
    assert answers == one_by_one(model, [prefix + row for row in rows])
    assert shared.cache.get_seq_length() == len(prefix)


def test_rows_are_cut_into_groups_where_that_spares_padding() -> None:
    assert module._groups([9, 9, 9, 2, 2], 10) == [(0, 3), (3, 5)]
    assert module._groups([9, 9, 9, 2, 2], 15) == [(0, 5)]
    assert module._groups([40, 20, 20, 1, 1, 1], 20) == [(0, 1), (1, 3), (3, 6)]
    assert module._groups([5], 1) == [(0, 1)]


def test_which_models_can_share_a_prefix() -> None:
    shareable = {name: make_decoder(make_model(config)).shareable for name, config in CONFIGS.items()}
    assert shareable == {
        "qwen3": True,
        "mistral with a sliding window": False,
        "gpt2": True,
        "mpt": False,
        "mamba": False,
    }


def test_a_rotary_embedding_that_changes_with_length_is_not_shared() -> None:
    changing = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    config = Qwen3Config(**SMALL, **SIZES, head_dim=8, rope_parameters=changing)
    assert not make_decoder(make_model(config)).shareable
    assert not make_decoder(make_model(config)).positioned


def test_without_a_cache_the_answers_are_the_same() -> None:
    model = make_model(CONFIGS["qwen3"])
    prefix, rows = make_rows(1)
    prompts = [prefix + row for row in rows]
    decoder = make_decoder(model)
    settings: dict[str, Any] = {"stop_ids": STOPS, "pad_id": 0, "max_new_tokens": 16}
    assert greedy(dataclasses.replace(decoder, cached=False), prompts, **settings) == greedy(
        decoder, prompts, **settings
    )


def test_a_prefix_is_used_again_and_not_changed() -> None:
    decoder = make_decoder(make_model(CONFIGS["qwen3"]))
    prefix, rows = make_rows(2)
    shared = share_prefix(decoder, prefix)
    settings: dict[str, Any] = {"stop_ids": STOPS, "pad_id": 0, "max_new_tokens": 16, "prefix": shared}
    first = greedy(decoder, rows, **settings)
    assert greedy(decoder, rows, **settings) == first
    assert shared.cache.get_seq_length() == len(prefix)


def test_sampling_settings_of_the_model_are_not_used(recwarn: pytest.WarningsRecorder) -> None:
    model = make_model(CONFIGS["qwen3"])
    prefix, rows = make_rows(3)
    expected = one_by_one(model, [prefix + row for row in rows])
    model.generation_config.update(do_sample=True, temperature=5.0, top_p=0.5, repetition_penalty=3.0)
    decoder = make_decoder(model)
    settings: dict[str, Any] = {"stop_ids": STOPS, "pad_id": 0, "max_new_tokens": 16}
    assert greedy(decoder, [prefix + row for row in rows], **settings) == expected
    assert not [warning for warning in recwarn if "temperature" in str(warning.message)]


def test_the_wrapped_model_is_called_and_its_inside_found() -> None:
    from peft import LoraConfig, get_peft_model

    inner = make_model(CONFIGS["qwen3"])
    wrapped = get_peft_model(inner, LoraConfig(target_modules=["q_proj"], init_lora_weights=False)).eval()
    prefix, rows = make_rows(4)
    prompts = [prefix + row for row in rows]
    decoder = make_decoder(wrapped)
    assert innermost(wrapped) is inner
    assert decoder.model is wrapped
    assert decoder.shareable
    assert not is_sharded(wrapped)
    settings: dict[str, Any] = {"stop_ids": STOPS, "pad_id": 0, "max_new_tokens": 16}
    assert greedy(decoder, prompts, **settings) == one_by_one(wrapped, prompts)


def test_nan_is_said_and_not_decoded() -> None:
    model = make_model(CONFIGS["qwen3"])
    model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="NaN"):
        greedy(make_decoder(model), [[5, 6]], stop_ids=STOPS, pad_id=0, max_new_tokens=4)
