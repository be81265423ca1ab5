from __future__ import annotations

from typing import Any

import pytest

from core import RowError, Segment
from core.data.chat_templates import FAMILIES, resolve_chat_template
from core.data.items import item_of
from core.errors import UserError
from core.evaluation.shots import split_example
from plugins.formats.chat_template import THINKING_NOTE, render

TEMPLATE = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\n' -}}"
    "{%- if message.thought -%}{{- '<think>' + message.thought + '</think>\n' -}}{%- endif -%}"
    "{{- message.content + '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
OPTIONS = {"chat_template": "jinja", "chat_template_jinja": TEMPLATE, "template_thinking_key": "thought"}
QUESTION = {"role": "user", "content": "Is 2 even?"}
TRAINED = [
    Segment("<think>It is 2 * 1.", trained=True, thought=True),
    Segment("</think>\n", trained=True, thought=True),
    Segment("yes", trained=True, answer=True),
    Segment("<|im_end|>", trained=True),
]


@pytest.mark.parametrize(
    ("answer", "options"),
    [
        ({"content": "yes", "why": "It is 2 * 1."}, {"field_thinking": "why"}),
        ({"content": "yes", "reasoning_content": "It is 2 * 1."}, {}),
        ({"content": "<think>\nIt is 2 * 1.\n</think>\n\nyes"}, {"split_thinking": True}),
        ({"content": "<reasoning>It is 2 * 1.</reasoning>yes"}, {"split_thinking": True}),
    ],
)
def test_thinking_is_handed_to_the_template(tokenizer: Any, answer: dict[str, str], options: dict[str, Any]) -> None:
    row = {"messages": [QUESTION, {"role": "assistant", **answer}]}
    (example,) = render(row, {**OPTIONS, **options}, tokenizer)
    assert [segment for segment in example.segments if segment.trained] == TRAINED
    assert example.notes == (THINKING_NOTE,)


def test_an_answer_without_thinking_stays_as_it_is(tokenizer: Any) -> None:
    row = {"messages": [QUESTION, {"role": "assistant", "content": "yes", "why": None}]}
    (example,) = render(row, {**OPTIONS, "field_thinking": "why"}, tokenizer)
    assert [segment for segment in example.segments if segment.trained] == TRAINED[2:]


def test_thinking_must_be_text(tokenizer: Any) -> None:
    row = {"messages": [QUESTION, {"role": "assistant", "content": "yes", "why": 3}]}
    with pytest.raises(RowError, match=r"the thinking of a message \('why'\) is the number 3, not text"):
        render(row, {**OPTIONS, "field_thinking": "why"}, tokenizer)


def test_the_name_of_a_family_is_the_tokenizers_own_template(tokenizer: Any) -> None:
    assert len(FAMILIES) > 20
    assert {resolve_chat_template(tokenizer, name) for name in FAMILIES} == {tokenizer.chat_template}
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="chat_template 'qwen3' is the template of the model's own tokenizer, and this"):
        resolve_chat_template(tokenizer, "qwen3")


def test_what_a_row_thinks_is_not_told_to_the_model_that_is_scored(tokenizer: Any) -> None:
    row = {"messages": [QUESTION, {"role": "assistant", "content": "yes", "reasoning_content": "It is 2 * 1."}]}
    (example,) = render(row, OPTIONS, tokenizer)
    item = item_of(example, row, "a.jsonl:1", 0, tokenizer)
    assert item.prompt == "<|im_start|>user\nIs 2 even?<|im_end|>\n<|im_start|>assistant\n"
    assert (item.references, item.thinking_ends) == (("yes",), "</think>")
    assert split_example(example) == (item.prompt, "yes")


def test_text_that_every_row_has_before_its_answer_is_asked_with(tokenizer: Any) -> None:
    jinja = TEMPLATE.replace(
        "{{- message.content", "{{- '<think></think>\n' if message.role == 'assistant' -}}{{- message.content"
    )
    row = {"messages": [QUESTION, {"role": "assistant", "content": "yes"}]}
    (example,) = render(row, {**OPTIONS, "chat_template_jinja": jinja}, tokenizer)
    item = item_of(example, row, "a.jsonl:1", 0, tokenizer)
    assert item.prompt.endswith("<|im_start|>assistant\n<think></think>\n")
    assert item.thinking_ends == ""


def test_the_name_of_who_answers_is_no_thinking(tokenizer: Any) -> None:
    jinja = TEMPLATE.replace("{{- message.content", "{{- message.name + ': ' if message.name -}}{{- message.content")
    row = {"messages": [QUESTION, {"role": "assistant", "name": "Bot", "content": "1:2"}]}
    (example,) = render(row, {**OPTIONS, "chat_template_jinja": jinja}, tokenizer)
    item = item_of(example, row, "a.jsonl:1", 0, tokenizer)
    assert item.prompt.endswith("<|im_start|>assistant\nBot: ")
    assert (item.references, item.thinking_ends) == (("1:2",), "")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking", "thought"])
def test_the_usual_names_of_thinking_need_no_option(tokenizer: Any, name: str) -> None:
    jinja = TEMPLATE.replace("message.thought", f"message.{name}")
    row = {"messages": [QUESTION, {"role": "assistant", "content": "yes", name: "It is 2 * 1."}]}
    (example,) = render(row, {"chat_template": "jinja", "chat_template_jinja": jinja}, tokenizer)
    assert [segment for segment in example.segments if segment.trained] == TRAINED
    assert example.notes == (THINKING_NOTE,)


def test_what_else_stands_before_an_answer_is_asked_with_and_told(tokenizer: Any) -> None:
    jinja = TEMPLATE.replace("<think>' + message.thought + '</think>", "<mood>' + message.mood + '</mood>")
    options = {"chat_template": "jinja", "chat_template_jinja": jinja.replace("message.thought", "message.mood")}
    row = {"messages": [QUESTION, {"role": "assistant", "content": "yes", "mood": "glad"}]}
    (example,) = render(row, options, tokenizer)
    item = item_of(example, row, "a.jsonl:1", 0, tokenizer)
    assert item.prompt.endswith("<|im_start|>assistant\n<mood>glad</mood>\n")
    assert (item.references, item.thinking_ends) == (("yes",), "")
    assert "of 'mood' before an answer is part of the question in evaluation" in example.notes[1]
    (example,) = render(row, {**options, "template_thinking_key": "mood", "field_thinking": "mood"}, tokenizer)
    item = item_of(example, row, "a.jsonl:1", 0, tokenizer)
    assert item.prompt.endswith("<|im_start|>assistant\n")
    assert (item.references, item.thinking_ends) == (("yes",), "</mood>")
    assert example.notes == (THINKING_NOTE,)
