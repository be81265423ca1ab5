"""The chat format with the tokenizer and template of a real model, where its converted folder is in the cache."""

from __future__ import annotations

from typing import Any

import pytest

from core import Example, RowError
from core.data import encode_prompt, item_of, tokenize_example
from core.models.gguf import cache_folder
from plugins.formats.chat_template import render

DEFAULT_SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
CHAT = [{"role": "user", "content": "Is 2 even?"}, {"role": "assistant", "content": "yes"}]


@pytest.fixture(scope="module")
def smollm2() -> Any:
    """The tokenizer of SmolLM2-135M-Instruct."""
    from transformers import AutoTokenizer

    for folder in sorted((cache_folder() / "gguf").glob("*-v*")):
        if (folder / "tokenizer.json").is_file():
            tokenizer = AutoTokenizer.from_pretrained(str(folder))
            if "SmolLM" in (tokenizer.chat_template or ""):
                return tokenizer
    pytest.skip("SmolLM2 has not been converted into the cache yet")


def rendered(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> Example:
    (example,) = render({"messages": messages}, options, tokenizer)
    return example


def test_default_system_turn(smollm2: Any) -> None:
    example = rendered(smollm2, CHAT)
    text = "".join(segment.text for segment in example.segments)
    assert text == (f"{DEFAULT_SYSTEM}<|im_start|>user\nIs 2 even?<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n")
    assert [segment.text for segment in example.segments if segment.trained] == ["yes", "<|im_end|>"]
    assert example.notes == ()
    own = rendered(smollm2, [{"role": "system", "content": "Be brief."}, *CHAT])
    assert "SmolLM" not in "".join(segment.text for segment in own.segments)


def test_prompt_ids_are_the_beginning_of_the_training_ids(smollm2: Any) -> None:
    example = rendered(smollm2, CHAT)
    prompt = item_of(example, {}, "x:1", 0, smollm2).prompt
    asked = smollm2.apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == asked
    ids = encode_prompt(prompt, smollm2)
    tokens = tokenize_example(example, smollm2)
    assert tokens.input_ids[: len(ids)] == ids
    assert [label for label in tokens.labels if label != -100] == tokens.input_ids[len(ids) : -1]
    assert tokens.input_ids[-2] == smollm2.eos_token_id
    assert tokens.straddling == 0


def test_null_content(smollm2: Any) -> None:
    with pytest.raises(RowError, match=r"the content of message 2 \(assistant\) is null, not text"):
        rendered(smollm2, [CHAT[0], {"role": "assistant", "content": None}])
