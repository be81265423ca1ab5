from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.data.chat_templates import NAMED, adopt_chat_template, resolve_chat_template, unread_variables
from core.errors import UserError
from plugins.formats.chat_template import render
from tests.core.plans import make_test_plan

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


THINKS = (
    "{%- for m in messages -%}{{- m.role + ': ' + m.content + '|' -}}{%- endfor -%}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}{{- 'no' -}}{%- endif -%}{{- marks -}}"
)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (None, "user: Hi|"),
        ({}, "user: Hi|"),
        ({"enable_thinking": False}, "user: Hi|no"),
        ({"enable_thinking": True}, "user: Hi|"),
        (
            {"marks": ['it\'s "{% x %}"', None, 1.5, True, {"k": 2}]},
            "user: Hi|['it\\'s \"{% x %}\"', None, 1.5, True, {'k': 2}]",
        ),
    ],
)
def test_variables_are_written_into_the_template(tokenizer: Any, variables: Any, expected: str) -> None:
    template = resolve_chat_template(tokenizer, None, THINKS, variables)
    assert tokenizer.apply_chat_template(MESSAGES[:1], chat_template=template, tokenize=False) == expected
    # what a data set sets stands in place of what the recipe sets, which the tokenizer has taken over
    tokenizer.chat_template = template
    again = resolve_chat_template(tokenizer, None, None, {"enable_thinking": False})
    assert again == resolve_chat_template(tokenizer, None, THINKS, {"enable_thinking": False})


@pytest.mark.parametrize("name", ["messages", "add_generation_prompt", "a b", ""])
def test_what_is_no_variable_of_a_template(tokenizer: Any, name: str) -> None:
    with pytest.raises(UserError, match="chat_template_kwargs cannot set"):
        resolve_chat_template(tokenizer, None, THINKS, {name: 1})


def test_variables_that_nothing_reads_are_told(tokenizer: Any) -> None:
    given = {"enable_thinking": False, "enable_thinkng": True}
    assert unread_variables(resolve_chat_template(tokenizer, None, THINKS, given)) == ("enable_thinkng",)
    assert unread_variables(THINKS) == ()
    row = {"messages": MESSAGES[:2]}
    (example,) = render(row, {"chat_template_jinja": THINKS, "chat_template_kwargs": given}, tokenizer)
    assert any("reads no variable 'enable_thinkng'" in note for note in example.notes)


def test_the_tuned_model_keeps_the_variables(tokenizer: Any, tmp_path: Path) -> None:
    plan = make_test_plan(tmp_path, tmp_path / "no-model", chat_template_kwargs={"enable_thinking": False})
    tokenizer.chat_template = THINKS
    adopt_chat_template(plan, tokenizer)
    assert tokenizer.apply_chat_template(MESSAGES[:1], tokenize=False) == "user: Hi|no"
    adopt_chat_template(plan, tokenizer)
    assert tokenizer.chat_template.count("enable_thinking = ") == 1
