from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import RecipeError
from core.models import load_tokenizer
from core.recipe import load_recipe
from tests.core.model_plans import make_model_plan


def test_a_token_gets_a_new_text_and_keeps_its_number(tmp_path: Path, tiny_model: Path) -> None:
    own = load_tokenizer(make_model_plan(tmp_path, tiny_model))
    number = own.convert_tokens_to_ids("<|im_start|>")
    made = load_tokenizer(make_model_plan(tmp_path, tiny_model, added_tokens_overrides={number: "<|patient|>"}))
    assert made.encode("<|patient|>x") == [number, *own.encode("x")]
    assert made.decode([number]) == "<|patient|>"
    assert len(made) == len(own)
    assert "<|im_start|>" not in made.get_vocab()
    assert (made.eos_token, made.chat_template) == (own.eos_token, own.chat_template)
    made.save_pretrained(tmp_path / "saved")
    assert "<|patient|>" in (tmp_path / "saved" / "tokenizer.json").read_text(encoding="utf-8")


def test_numbers_and_texts_that_cannot_be(tmp_path: Path, tiny_model: Path) -> None:
    own = load_tokenizer(make_model_plan(tmp_path, tiny_model))
    number = own.convert_tokens_to_ids("<|im_start|>")
    with pytest.raises(RecipeError, match="token 9999999 is not one of the tokens added to the vocabulary"):
        load_tokenizer(make_model_plan(tmp_path, tiny_model, added_tokens_overrides={9999999: "<|x|>"}))
    with pytest.raises(RecipeError, match=r"'<\|im_end\|>' is token .* already"):
        load_tokenizer(make_model_plan(tmp_path, tiny_model, added_tokens_overrides={number: "<|im_end|>"}))


def test_the_numbers_are_written_as_in_axolotl(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text('base_model: org/model\nadded_tokens_overrides:\n  128041: "<|x|>"\n', encoding="utf-8")
    assert {str(key): text for key, text in load_recipe(path)["added_tokens_overrides"].items()} == {"128041": "<|x|>"}
