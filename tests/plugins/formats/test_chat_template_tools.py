"""Tools in the prompt, calls of tools in the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core import Example, RowError
from core.data import item_of, tokenize_example
from plugins.formats.chat_template import TOOLS_NOTE, render
from tests.plugins.formats.model_templates import QWEN

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": {"place": "Köln"}}}
CALL_TEXT = '<tool_call>\n{"name": "weather", "arguments": {"place": "Köln"}}\n</tool_call>'
CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "How is it in Köln?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "rain"},
    {"role": "assistant", "content": "It rains."},
]


def rendered(
    tokenizer: Any, messages: list[dict[str, Any]], *, row: dict[str, Any] | None = None, **options: Any
) -> Example:
    (example,) = render({"messages": messages, **(row or {})}, {"chat_template_jinja": QWEN, **options}, tokenizer)
    return example


def text_of(example: Example) -> str:
    return "".join(segment.text for segment in example.segments)


def trained(example: Example) -> list[str]:
    return [segment.text for segment in example.segments if segment.trained]


def test_calls_are_trained_as_the_answer_they_are(tokenizer: Any) -> None:
    example = rendered(tokenizer, CHAT, row={"tools": [WEATHER]})
    assert trained(example) == [CALL_TEXT, "<|im_end|>", "It rains.", "<|im_end|>"]
    assert text_of(example).endswith(
        f"<|im_start|>assistant\n{CALL_TEXT}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nrain\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nIt rains.<|im_end|>\n"
    )
    tokens = tokenize_example(example, tokenizer)
    assert tokenizer.decode([label for label in tokens.labels if label != -100]) == "".join(trained(example))


def test_the_text_is_that_of_the_template(tokenizer: Any) -> None:
    messages = [{**message, "content": message["content"] or ""} for message in CHAT]
    whole = tokenizer.apply_chat_template(messages, tools=[WEATHER], chat_template=QWEN, tokenize=False)
    assert text_of(rendered(tokenizer, CHAT, row={"tools": [WEATHER]})) == whole


def test_a_call_at_the_end_is_what_is_scored(tokenizer: Any) -> None:
    item = item_of(rendered(tokenizer, CHAT[:2]), {}, "x:1", 0, tokenizer)
    assert item.references == (CALL_TEXT,)
    assert item.prompt.endswith("<|im_start|>user\nHow is it in Köln?<|im_end|>\n<|im_start|>assistant\n")


def test_words_before_a_call_and_several_calls(tokenizer: Any) -> None:
    messages = [CHAT[0], {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL, CALL]}]
    assert trained(rendered(tokenizer, messages))[0] == f"Let me look.\n{CALL_TEXT}\n{CALL_TEXT}"


def test_several_answers_of_tools_in_a_row(tokenizer: Any) -> None:
    messages = [CHAT[0], {**CHAT[1], "tool_calls": [CALL, CALL]}, CHAT[2], {**CHAT[2], "content": "sun"}, CHAT[3]]
    example = rendered(tokenizer, messages)
    assert trained(example)[2:] == ["It rains.", "<|im_end|>"]
    assert "<tool_response>\nrain\n</tool_response>\n<tool_response>\nsun\n</tool_response><|im_end|>" in text_of(
        example
    )


@pytest.mark.parametrize(
    "tools",
    [
        [WEATHER],
        json.dumps([WEATHER]),
        [{**WEATHER, "function": {**WEATHER["function"], "parameters": json.dumps(WEATHER["function"]["parameters"])}}],  # type: ignore[dict-item]
    ],
)
def test_tools_as_they_come_in_files(tokenizer: Any, tools: Any) -> None:
    wanted = text_of(rendered(tokenizer, CHAT, row={"tools": [WEATHER]}))
    assert text_of(rendered(tokenizer, CHAT, row={"tools": tools})) == wanted
    assert '<tools>\n{"type": "function"' in wanted
    assert text_of(rendered(tokenizer, CHAT, row={"functions": tools}, field_tools="functions")) == wanted


@pytest.mark.parametrize(
    "call", [{**CALL, "function": {"name": "weather", "arguments": '{"place": "Köln"}'}}, CALL["function"]]
)
def test_calls_as_they_come_in_files(tokenizer: Any, call: Any) -> None:
    messages = [CHAT[0], {"role": "assistant", "tool_calls": [call]}]
    assert trained(rendered(tokenizer, messages))[0] == CALL_TEXT


def test_calls_under_another_name(tokenizer: Any) -> None:
    messages = [CHAT[0], {"role": "assistant", "calls": [CALL]}]
    mapping = {"role": "role", "content": "content", "tool_calls": "calls"}
    assert trained(rendered(tokenizer, messages, message_property_mappings=mapping))[0] == CALL_TEXT


@pytest.mark.parametrize("tools", [None, [], ""])
def test_no_tools(tokenizer: Any, tools: Any) -> None:
    assert "# Tools" not in text_of(rendered(tokenizer, CHAT, row={"tools": tools}))


def test_a_template_that_shows_no_tools(tokenizer: Any) -> None:
    example = rendered(tokenizer, CHAT[:1] + CHAT[3:], row={"tools": [WEATHER]}, chat_template_jinja=None)
    assert example.notes == (TOOLS_NOTE,)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tools": "{"}, "field 'tools' is no valid JSON: expecting property name"),
        ({"tools": {"a": 1}}, "field 'tools' is an object, not a list of tools"),
        ({"tools": ["weather"]}, "tool 1 is the text 'weather', not an object"),
        (
            {"tools": [{"function": {"name": "a", "parameters": "{"}}]},
            "the parameters of tool 1 are no valid JSON: expecting",
        ),
    ],
)
def test_what_is_no_tool(tokenizer: Any, row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError) as error:
        rendered(tokenizer, CHAT, row=row)
    assert error.value.message.startswith(message)


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ("weather", "'tool_calls' of message 2 is the text 'weather', not a list of calls"),
        ([1], "call 1 of message 2 is the number 1, not an object"),
        ([{"function": "weather"}], "'function' of call 1 of message 2 is the text 'weather', not an object"),
        ([{"function": {"arguments": {}}}], "call 1 of message 2 names no function; it has: arguments"),
        (
            [{"name": "a", "arguments": "{"}],
            "the arguments of call 1 of message 2 are no valid JSON: expecting property name",
        ),
        ([{"name": "a", "arguments": "[1]"}], "the arguments of call 1 of message 2 are a list, not an object"),
    ],
)
def test_what_is_no_call(tokenizer: Any, calls: Any, message: str) -> None:
    with pytest.raises(RowError) as error:
        rendered(tokenizer, [CHAT[0], {"role": "assistant", "content": "", "tool_calls": calls}])
    assert error.value.message.startswith(message)


def test_a_template_that_leaves_calls_out(tokenizer: Any) -> None:
    with pytest.raises(RowError, match=r"the chat template leaves out the tool calls of message 2 \(assistant\)"):
        rendered(tokenizer, CHAT, chat_template_jinja=None)


def test_a_conversation_that_begins_with_a_call(tokenizer: Any) -> None:
    example = rendered(tokenizer, CHAT[1:], row={"tools": [WEATHER]})
    assert trained(example) == [CALL_TEXT, "<|im_end|>", "It rains.", "<|im_end|>"]
    assert text_of(example) == text_of(rendered(tokenizer, CHAT, row={"tools": [WEATHER]})).replace(
        "<|im_start|>user\nHow is it in Köln?<|im_end|>\n", ""
    )
    words = {"role": "assistant", "content": "I look.", "tool_calls": [CALL]}
    assert trained(rendered(tokenizer, [words]))[0] == f"I look.\n{CALL_TEXT}"


def test_a_conversation_that_begins_with_the_answer_of_a_tool(tokenizer: Any) -> None:
    example = rendered(tokenizer, CHAT[2:], row={"tools": [WEATHER]})
    assert trained(example) == ["It rains.", "<|im_end|>"]
    assert "<tool_response>\nrain\n</tool_response>" in text_of(example)


def test_a_call_where_the_template_asks_for_no_answer(tokenizer: Any) -> None:
    # a template that writes the role of an answer in another way than it asks for one
    jinja = QWEN.replace("<|im_start|>assistant\\n' -}}{%- endif -%}", "<|im_start|>model\\n' -}}{%- endif -%}")
    assert jinja != QWEN
    example = rendered(tokenizer, CHAT, chat_template_jinja=jinja)
    assert trained(example)[:2] == [CALL_TEXT, "<|im_end|>"]
