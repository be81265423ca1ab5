"""Rows longer than the places that a model has are told of before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from core import RecipeError
from plugins.trainers.sft.positions import refuse_missing_places
from tests.core.plans import make_test_data, make_test_plan

SMALL = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
TABLES = {
    "gpt2": lambda places: GPT2LMHeadModel(
        GPT2Config(vocab_size=400, n_embd=32, n_layer=1, n_head=4, n_positions=places)
    ),
    "opt": lambda places: OPTForCausalLM(
        OPTConfig(**SMALL, ffn_dim=32, word_embed_proj_dim=32, max_position_embeddings=places)
    ),
}


@pytest.mark.parametrize("family", TABLES)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_table_of_positions_ends(tmp_path: Path, family: str, wrapped: bool) -> None:
    data = make_test_data(24, val=6)
    longest = max(len(row) for row in [*data.train["input_ids"], *(data.val or {})["input_ids"]])
    plan = make_test_plan(tmp_path, tmp_path)

    def model(places: int) -> Any:
        from peft import LoraConfig, get_peft_model

        made = TABLES[family](places)
        return get_peft_model(made, LoraConfig(target_modules="all-linear")) if wrapped else made

    refuse_missing_places(plan, model(longest), data)
    with pytest.raises(RecipeError) as raised:
        refuse_missing_places(plan, model(longest - 1), data)
    (problem,) = raised.value.problems
    assert problem.key == ("sequence_len",)
    assert f"{longest} tokens" in problem.message
    assert f"sequence_len: {longest - 1}" in (problem.help or "")


def test_rotated_places_go_on_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_test_data(24)
    longest = max(map(len, data.train["input_ids"]))
    plan = make_test_plan(tmp_path, tmp_path)
    for places, warned in ((longest, False), (longest - 1, True)):
        config = LlamaConfig(**SMALL, intermediate_size=32, max_position_embeddings=places)
        refuse_missing_places(plan, LlamaForCausalLM(config), data)
        said = capsys.readouterr().out
        assert (f"{longest} tokens" in said and "max_position_embeddings" in said) is warned
