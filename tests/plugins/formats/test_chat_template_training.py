"""Which parts of a conversation are trained: roles, flags and ranges of messages, ends of turns and of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core import Example, RowError, UserError
from core.check import check_recipe
from core.data import tokenize_example
from core.host import load_host
from core.recipe import load_recipe
from plugins.formats.chat_template import render
from tests.plugins.formats.model_templates import LLAMA_AND_END, QWEN

CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Ciao"},
]
FLAG = {"message_field_training": "train"}
DETAIL = {"message_field_training_detail": "parts"}


def rendered(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> Example:
    (example,) = render({"messages": messages}, options, tokenizer)
    return example


def trained(example: Example) -> list[str]:
    return [segment.text for segment in example.segments if segment.trained]


def flagged(*flags: bool | None) -> list[dict[str, Any]]:
    return [{**message, "train": flag} for message, flag in zip(CHAT, flags, strict=True)]


def with_parts(text: str, *parts: tuple[int, int, bool]) -> list[dict[str, Any]]:
    ranges = [{"begin_offset": first, "end_offset": last, "train": train} for first, last, train in parts]
    return [CHAT[0], {"role": "assistant", "content": text, "parts": ranges}]


# ---------------------------------------------------------------- flags


def test_flags_stand_above_roles(tokenizer: Any) -> None:
    example = rendered(tokenizer, flagged(True, False, None, None), **FLAG)
    assert trained(example) == ["Hi", "<|im_end|>", "Ciao", "<|im_end|>"]
    tokens = tokenize_example(example, tokenizer)
    assert tokenizer.decode([label for label in tokens.labels if label != -100]) == "Hi<|im_end|>Ciao<|im_end|>"


def test_flags_that_no_option_names_mean_nothing(tokenizer: Any) -> None:
    assert trained(rendered(tokenizer, flagged(True, False, True, False))) == [
        "Hello",
        "<|im_end|>",
        "Ciao",
        "<|im_end|>",
    ]


@pytest.mark.parametrize("template", [QWEN, LLAMA_AND_END])
def test_flags_in_templates_of_models(tokenizer: Any, template: str) -> None:
    example = rendered(tokenizer, flagged(None, False, None, None), chat_template_jinja=template, **FLAG)
    assert trained(example)[0] == "Ciao"


def test_a_flag_takes_a_message_out_of_the_whole(tokenizer: Any) -> None:
    example = rendered(tokenizer, flagged(None, False, None, None), train_on_inputs=True, **FLAG)
    left_out = [segment.text for segment in example.segments if not segment.trained]
    assert left_out == ["Hello", "<|im_end|>"]


def test_an_answer_that_is_not_trained_may_be_empty(tokenizer: Any) -> None:
    messages = flagged(None, False, None, None)
    messages[1]["content"] = ""
    assert trained(rendered(tokenizer, messages, **FLAG)) == ["Ciao", "<|im_end|>"]


@pytest.mark.parametrize(("flag", "said"), [("yes", "the text 'yes'"), (1, "the number 1"), ([], "a list")])
def test_a_flag_is_true_or_false(tokenizer: Any, flag: Any, said: str) -> None:
    with pytest.raises(RowError, match=f"'train' of message 1 is {said}, not true or false"):
        rendered(tokenizer, [{**CHAT[0], "train": flag}, CHAT[1]], **FLAG)


# ---------------------------------------------------------------- ranges of characters


def test_ranges_of_characters(tokenizer: Any) -> None:
    text = "The sky is green. No: it is blue."
    messages = with_parts(text, (0, 17, False), (18, len(text) - 1, True))
    example = rendered(tokenizer, messages, **DETAIL)
    assert trained(example) == ["No: it is blue.", "<|im_end|>"]
    answers = [segment.text for segment in example.segments if segment.answer]
    assert "".join(answers) == text


def test_characters_in_no_range_are_not_trained(tokenizer: Any) -> None:
    example = rendered(tokenizer, with_parts("abc def ghi", (4, 6, True)), **DETAIL)
    assert trained(example) == ["def", "<|im_end|>"]


def test_ranges_in_any_order(tokenizer: Any) -> None:
    example = rendered(tokenizer, with_parts("abcdefgh", (6, 7, True), (0, 1, True), (2, 5, False)), **DETAIL)
    assert trained(example) == ["ab", "gh", "<|im_end|>"]


def test_nothing_trained_in_the_ranges_is_nothing_trained(tokenizer: Any) -> None:
    assert trained(rendered(tokenizer, with_parts("abc", (0, 2, False)), **DETAIL)) == []


def test_ranges_train_a_message_of_any_role(tokenizer: Any) -> None:
    user = {**CHAT[0], "parts": [{"begin_offset": 0, "end_offset": 0, "train": True}]}
    assert trained(rendered(tokenizer, [user, CHAT[1]], **DETAIL)) == ["H", "<|im_end|>", "Hello", "<|im_end|>"]


def test_a_flag_stands_above_ranges(tokenizer: Any) -> None:
    messages = with_parts("abcdef", (0, 2, True))
    messages[1]["train"] = False
    assert trained(rendered(tokenizer, messages, **DETAIL, **FLAG)) == []
    messages[1]["train"] = True
    assert trained(rendered(tokenizer, messages, **DETAIL, **FLAG)) == ["abc", "<|im_end|>"]


def test_ranges_count_in_the_file_although_the_template_trims(tokenizer: Any) -> None:
    messages = with_parts("  abc def \n", (2, 4, True))
    assert trained(rendered(tokenizer, messages, chat_template="llama3", **DETAIL)) == ["abc", "<|eot_id|>"]


def test_ranges_inside_a_character_of_several_tokens(tokenizer: Any) -> None:
    example = rendered(tokenizer, with_parts("ab🙂cd", (2, 2, True)), **DETAIL)
    tokens = tokenize_example(example, tokenizer)
    assert tokenizer.decode([label for label in tokens.labels if label != -100]) == "🙂<|im_end|>"


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ("0-3", "'parts' of message 2 is the text '0-3', not a list of ranges"),
        ([1], "range 1 of message 2 is the number 1, not an object with begin_offset, end_offset and train"),
        ([{"begin_offset": 0, "train": True}], "range 1 of message 2 has no 'end_offset'; it has: begin_offset, train"),
        (
            [{"begin_offset": 0, "end_offset": "2", "train": True}],
            "'end_offset' of range 1 of message 2 is the text '2', not a whole number",
        ),
        (
            [{"begin_offset": 0, "end_offset": 2, "train": 1}],
            "'train' of range 1 of message 2 is the number 1, not true or false",
        ),
        (
            [{"begin_offset": 0, "end_offset": 3, "train": True}],
            "range 1 of message 2 goes from 0 to 3, the content has characters 0 to 2",
        ),
        (
            [{"begin_offset": 2, "end_offset": 1, "train": True}],
            "range 1 of message 2 goes from 2 to 1, the content has characters 0 to 2",
        ),
        (
            [
                {"begin_offset": 0, "end_offset": 1, "train": True},
                {"begin_offset": 1, "end_offset": 2, "train": False},
            ],
            "ranges of message 2 overlap at character 1",
        ),
    ],
)
def test_what_is_no_range(tokenizer: Any, ranges: Any, message: str) -> None:
    messages = [CHAT[0], {"role": "assistant", "content": "abc", "parts": ranges}]
    with pytest.raises(RowError) as error:
        rendered(tokenizer, messages, **DETAIL)
    assert error.value.message == message


def test_ranges_of_a_call_cannot_be_told(tokenizer: Any) -> None:
    messages = with_parts("abc", (0, 1, True))
    messages[1]["tool_calls"] = [{"name": "a", "arguments": {}}]
    with pytest.raises(RowError, match="message 2 calls tools: ranges of its characters cannot be told"):
        rendered(tokenizer, messages, chat_template_jinja=QWEN, **DETAIL)


# ---------------------------------------------------------------- ends of turns, ends of text


@pytest.fixture
def two_ends(tokenizer: Any) -> Any:
    """The tiny tokenizer with `<|eot_id|>`, which ends a turn, beside its end-of-text token."""
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|eot_id|>"]})
    return tokenizer


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["Hello", "<|eot_id|>", "Ciao", "<|eot_id|>", "<|im_end|>"]),
        ({"train_on_eos": "none"}, ["Hello", "Ciao"]),
        ({"train_on_eos": "none", "train_on_eot": "turn"}, ["Hello", "<|eot_id|>", "Ciao", "<|eot_id|>"]),
        ({"train_on_eos": "turn", "train_on_eot": "none"}, ["Hello", "Ciao", "<|im_end|>"]),
        ({"train_on_eos": "last", "train_on_eot": "last"}, ["Hello", "Ciao", "<|eot_id|>", "<|im_end|>"]),
        (
            {"train_on_eos": "none", "train_on_eot": "all"},
            ["<|eot_id|>", "Hello", "<|eot_id|>", "<|eot_id|>", "Ciao", "<|eot_id|>"],
        ),
    ],
)
@pytest.mark.parametrize("marks", [None, ["<|eot_id|>"]])
def test_ends_of_two_kinds(
    two_ends: Any, options: dict[str, str], expected: list[str], marks: list[str] | None
) -> None:
    example = rendered(two_ends, CHAT, chat_template_jinja=LLAMA_AND_END, eot_tokens=marks, **options)
    assert trained(example) == expected


def test_one_token_cannot_follow_two_rules(tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"train_on_eos is 'turn', train_on_eot is 'none', and '<\|im_end\|>' is both"):
        rendered(tokenizer, CHAT, eot_tokens=["<|im_end|>"], train_on_eot="none")


@pytest.mark.parametrize(
    ("written", "told"),
    [("roles_to_train:", True), ("roles_to_train: null", True), ("roles_to_train: [assistant]", False), ("", False)],
)
def test_roles_that_are_null_are_as_unset_and_it_is_said(tmp_path: Path, written: str, told: bool) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text(f"base_model: org/m\ndatasets:\n  - path: org/x\n    type: chat_template\n    {written}\n")
    problems = check_recipe(load_recipe(path), load_host())
    assert [(problem.severity, problem.position and problem.position.line) for problem in problems] == (
        [("warning", 5)] if told else []
    )
    assert all("all messages of the assistant are trained" in problem.message for problem in problems)
