from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.data.chat_templates import NAMED, resolve_chat_template
from core.errors import UserError

MESSAGES = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]
# the texts that the models of each family were trained with; bos is <s>, eos is </s>
GOLDEN = {
    "chatml": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
    "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
    "phi_3": "<s><|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n",
    "alpaca": "<s>### Instruction:\nHi\n\n### Response:\nHello</s>\n\n### Instruction:\nBye\n\n### Response:\n",
    "mistral_v1": "<s> [INST] Hi [/INST] Hello</s> [INST] Bye [/INST]",
    "mistral_v2v3": "<s>[INST] Hi[/INST] Hello</s>[INST] Bye[/INST]",
    "mistral_v3_tekken": "<s>[INST]Hi[/INST]Hello</s>[INST]Bye[/INST]",
}


@pytest.fixture
def marked(tokenizer: Any) -> Any:
    tokenizer.bos_token, tokenizer.eos_token = "<s>", "</s>"
    return tokenizer


def test_every_named_template_has_a_golden_text() -> None:
    assert set(GOLDEN) == set(NAMED)


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_texts(marked: Any, name: str) -> None:
    text = marked.apply_chat_template(MESSAGES, chat_template=NAMED[name], tokenize=False, add_generation_prompt=True)
    assert text == GOLDEN[name]


def test_resolving(tokenizer: Any, tmp_path: Path) -> None:
    own = tokenizer.chat_template
    assert resolve_chat_template(tokenizer) == own
    assert resolve_chat_template(tokenizer, "tokenizer_default") == own
    assert resolve_chat_template(tokenizer, "tokenizer_default_fallback_llama3") == own
    assert resolve_chat_template(tokenizer, "llama3") == NAMED["llama3"]
    assert resolve_chat_template(tokenizer, "jinja", "{{ messages }}") == "{{ messages }}"
    (tmp_path / "own.jinja").write_text("{{ 1 }}")
    assert resolve_chat_template(tokenizer, None, str(tmp_path / "own.jinja")) == "{{ 1 }}"
    tokenizer.chat_template = None
    assert resolve_chat_template(tokenizer, "tokenizer_default_fallback_llama3") == NAMED["llama3"]


@pytest.mark.parametrize(
    ("name", "jinja", "message"),
    [
        ("qwen9", None, "the chat template 'qwen9' is not built in"),
        ("jinja", None, "chat_template is 'jinja' but chat_template_jinja is not set"),
        ("llama3", "{{ 1 }}", "chat_template 'llama3' and chat_template_jinja are both set"),
        (None, "no-such-file.jinja", "chat_template_jinja 'no-such-file.jinja' is neither a template nor a file"),
    ],
)
def test_refusals(tokenizer: Any, name: str | None, jinja: str | None, message: str) -> None:
    with pytest.raises(UserError) as error:
        resolve_chat_template(tokenizer, name, jinja)
    assert error.value.message.startswith(message)
    assert error.value.help
