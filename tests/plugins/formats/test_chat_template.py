from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import Example, RowError, Segment, UserError
from core.data import item_of, tokenize_example
from core.data.chat_templates import NAMED
from plugins.formats.chat_template import conversation, render

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
SHAREGPT = {"field_messages": "conversations", "message_property_mappings": {"role": "from", "content": "value"}}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Ciao"},
]
# cuts reasoning out of earlier answers, and begins the last with a block of it: contents change the template's own text
THINKING = """\
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.last %}{{- '<think>\\n' + reasoning + '\\n</think>\\n\\n' }}{%- endif %}
        {{- content + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""


def rendered(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> Example:
    (example,) = render({"messages": messages}, options, tokenizer)
    return example


def trained(example: Example) -> list[str]:
    return [segment.text for segment in example.segments if segment.trained]


def text_of(example: Example) -> str:
    return "".join(segment.text for segment in example.segments)


def test_golden(tokenizer: Any) -> None:
    assert list(rendered(tokenizer, CHAT).segments) == [
        Segment("<|im_start|>system\n"),
        Segment("Be brief."),
        Segment("<|im_end|>"),
        Segment("\n<|im_start|>user\n"),
        Segment("Hi"),
        Segment("<|im_end|>"),
        Segment("\n<|im_start|>assistant\n"),
        Segment("Hello", trained=True),
        Segment("<|im_end|>", trained=True),
        Segment("\n<|im_start|>user\n"),
        Segment("Bye"),
        Segment("<|im_end|>"),
        Segment("\n<|im_start|>assistant\n"),
        Segment("Ciao", trained=True, answer=True),
        Segment("<|im_end|>", trained=True),
        Segment("\n"),
    ]


def test_sharegpt_is_the_same(tokenizer: Any) -> None:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    row = {"id": 1, "conversations": [{"from": names[m["role"]], "value": m["content"], "weight": None} for m in CHAT]}
    assert render(row, SHAREGPT, tokenizer) == [rendered(tokenizer, CHAT)]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("turn", ["Hello", "<|im_end|>", "Ciao", "<|im_end|>"]),
        ("all", ["<|im_end|>", "<|im_end|>", "Hello", "<|im_end|>", "<|im_end|>", "Ciao", "<|im_end|>"]),
        ("last", ["Hello", "Ciao", "<|im_end|>"]),
        ("none", ["Hello", "Ciao"]),
    ],
)
def test_train_on_eos(tokenizer: Any, option: str, expected: list[str]) -> None:
    assert trained(rendered(tokenizer, CHAT, train_on_eos=option)) == expected


def test_roles_to_train(tokenizer: Any) -> None:
    example = rendered(tokenizer, CHAT, roles_to_train=["human", "gpt"])
    assert [text for text in trained(example) if text != "<|im_end|>"] == ["Hi", "Hello", "Bye", "Ciao"]
    example = rendered(tokenizer, CHAT, roles_to_train=["user"])
    assert item_of(example, {}, "x:1", 0, tokenizer).references == ("Ciao",)


def test_train_on_inputs(tokenizer: Any) -> None:
    example = rendered(tokenizer, CHAT, train_on_inputs=True)
    assert all(segment.trained for segment in example.segments)
    assert item_of(example, {}, "x:1", 0, tokenizer).references == ("Ciao",)


def test_own_names_of_roles(tokenizer: Any) -> None:
    messages = [{"role": "customer", "content": "Hi"}, {"role": "bot", "content": "Hello"}]
    example = rendered(tokenizer, messages, roles={"user": ["customer"], "assistant": ["bot"]})
    assert text_of(example) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    assert trained(example) == ["Hello", "<|im_end|>"]


def test_system_messages(tokenizer: Any) -> None:
    without = CHAT[1:]
    assert text_of(rendered(tokenizer, CHAT, drop_system_message=True)) == text_of(rendered(tokenizer, without))
    whole = text_of(rendered(tokenizer, CHAT))
    assert text_of(rendered(tokenizer, without, default_system_message="Be brief.")) == whole
    assert text_of(rendered(tokenizer, CHAT, default_system_message="Be long.")) == whole
    (example,) = render({"system": "Be brief.", "messages": without}, {"default_system_message": "Be long."}, tokenizer)
    assert text_of(example) == whole


@pytest.mark.parametrize("name", sorted(NAMED))
def test_named_templates(tokenizer: Any, name: str) -> None:
    tokenizer.bos_token = "<s>"
    example = rendered(tokenizer, CHAT[1:], chat_template=name)
    whole = tokenizer.apply_chat_template(CHAT[1:], chat_template=NAMED[name], tokenize=False)
    prompt = tokenizer.apply_chat_template(
        CHAT[1:4], chat_template=NAMED[name], tokenize=False, add_generation_prompt=True
    )
    assert text_of(example) == whole
    item = item_of(example, {}, "x:1", 0, tokenizer)
    assert item.prompt == prompt
    assert [reference.strip() for reference in item.references] == ["Ciao"]
    first, first_end, last, last_end = trained(example)
    assert (first.strip(), last.strip(), first_end) == ("Hello", "Ciao", last_end)
    assert last_end in ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")


def test_space_between_prompt_and_answer_is_trained(tokenizer: Any) -> None:
    # the space and the first word are one token as a rule: it must not fall to the untrained side
    example = rendered(tokenizer, CHAT[1:], chat_template="mistral_v1")
    assert trained(example) == [" Hello", "<|im_end|>", " Ciao", "<|im_end|>"]


def test_contents_that_the_template_trims(tokenizer: Any) -> None:
    messages = [{"role": "user", "content": " Hi\n"}, {"role": "assistant", "content": "\n Hello \n\n"}]
    example = rendered(tokenizer, messages, chat_template="llama3")
    assert trained(example) == ["Hello", "<|eot_id|>"]


def test_end_of_turn_tokens(tokenizer: Any) -> None:
    jinja = "{% for m in messages %}{{ m.role }}: {{ m.content }} [done]\n{% endfor %}"
    example = rendered(tokenizer, CHAT[1:3], chat_template_jinja=jinja, eot_tokens=["[done]"])
    assert trained(example)[-1] == " [done]"
    tokenizer.add_special_tokens({"additional_special_tokens": ["[done]"]})
    example = rendered(tokenizer, CHAT[1:3], chat_template_jinja=jinja)
    assert trained(example)[-1] == " [done]"


def test_thinking_template(tokenizer: Any) -> None:
    messages = [*CHAT[1:2], {"role": "assistant", "content": "<think>\nfirst\n</think>\n\nHello"}, *CHAT[3:]]
    example = rendered(tokenizer, messages, chat_template_jinja=THINKING)
    assert text_of(example) == tokenizer.apply_chat_template(messages, chat_template=THINKING, tokenize=False)
    assert trained(example) == ["Hello", "<|im_end|>", "<think>\n\n</think>\n\n", "Ciao", "<|im_end|>"]
    (note,) = example.notes
    assert note.startswith(
        "the template puts '<think>\\n\\n</think>\\n\\n' between its generation prompt and the answer"
    )


def test_thinking_in_the_last_answer(tokenizer: Any) -> None:
    messages = [*CHAT[:4], {"role": "assistant", "content": "<think>\nhm\n</think>\n\nCiao"}]
    example = rendered(tokenizer, messages, chat_template_jinja=THINKING)
    assert text_of(example) == tokenizer.apply_chat_template(messages, chat_template=THINKING, tokenize=False)
    assert trained(example) == ["Hello", "<|im_end|>", "<think>\nhm\n</think>\n\nCiao", "<|im_end|>"]
    prompt = tokenizer.apply_chat_template(CHAT[:4], chat_template=THINKING, tokenize=False, add_generation_prompt=True)
    assert item_of(example, {}, "x:1", 0, tokenizer).prompt == prompt


def test_another_generation_prompt_is_noted(tokenizer: Any) -> None:
    jinja = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}ANSWER:{% endif %}"
    )
    example = rendered(tokenizer, CHAT, chat_template_jinja=jinja)
    assert len(example.notes) == 1
    assert example.notes[0].startswith("the template's generation prompt is not how it begins an answer")
    assert trained(example) == ["Hello", "<|im_end|>", "Ciao", "<|im_end|>"]


def test_properties_that_the_template_reads(tokenizer: Any) -> None:
    jinja = (
        "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.name %} ({{ m.name }}){% endif %}"
        "{{ '\\n' + m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    messages = [{"role": "user", "content": "Hi", "who": "Ann", "rank": 3}, *CHAT[2:3]]
    mapping = {"role": "role", "content": "content", "name": "who"}
    example = rendered(tokenizer, messages, chat_template_jinja=jinja, message_property_mappings=mapping)
    assert text_of(example).startswith("<|im_start|>user (Ann)\nHi<|im_end|>\n")
    assert trained(example) == ["Hello", "<|im_end|>"]


def test_a_template_that_changes_contents_beyond_recognition(tokenizer: Any) -> None:
    jinja = "{% for m in messages %}{{ m.content | upper }}{{ m.content | length }}{% endfor %}"
    with pytest.raises(
        RowError, match=r"the chat template changes message 1 \(user\) so that its ends cannot be found"
    ):
        rendered(tokenizer, CHAT[1:3], chat_template_jinja=jinja)


def test_a_template_that_leaves_messages_out(tokenizer: Any) -> None:
    messages = [*CHAT[1:3], {"role": "tool", "content": "42"}]
    with pytest.raises(RowError, match=r"the chat template leaves out message 3 \(tool\)"):
        rendered(tokenizer, messages, chat_template="phi_3")


def test_a_template_with_a_mistake(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="the chat template is not valid jinja: line 1: "):
        rendered(tokenizer, CHAT, chat_template_jinja="{% for m in messages %}")


def test_a_conversation_that_does_not_end_in_an_answer(tokenizer: Any) -> None:
    example = rendered(tokenizer, CHAT[:4])
    assert trained(example) == ["Hello", "<|im_end|>"]
    assert item_of(example, {}, "x:1", 0, tokenizer).references == ("Hello",)


# ---------------------------------------------------------------- against an independent, plain implementation


def plainly(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    """Ids and labels by one rendering per prefix; for templates whose prefixes are prefixes of the whole."""
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            start = len(tokenizer.apply_chat_template(messages[:index], tokenize=False, add_generation_prompt=True))
            stop = len(tokenizer.apply_chat_template(messages[: index + 1], tokenize=False).rstrip("\n"))
            spans.append((start, stop))
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids = list(encoded["input_ids"])
    labels = [
        token if any(start <= place < stop for start, stop in spans) else -100
        for token, (place, _) in zip(ids, encoded["offset_mapping"], strict=True)
    ]
    return ids, labels


CONTENT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: text.strip() and "TunesmithMark" not in text
)


@st.composite
def conversations(draw: Any, others: tuple[str, ...] = ("system", "tool")) -> list[dict[str, str]]:
    roles = draw(st.lists(st.sampled_from(["user", "assistant", *others]), min_size=1, max_size=7))
    return [{"role": role, "content": draw(CONTENT)} for role in ["user", *roles]]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=conversations())
def test_any_conversation(tokenizer: Any, messages: list[dict[str, str]]) -> None:
    example = rendered(tokenizer, messages)
    assert text_of(example) == tokenizer.apply_chat_template(messages, tokenize=False)
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    assert trained(example) == [part for answer in answers for part in (answer, "<|im_end|>")]
    tokens = tokenize_example(example, tokenizer)
    assert (tokens.input_ids, tokens.labels) == plainly(tokenizer, messages)
    if not tokens.straddling:
        labels = [label for label in tokens.labels if label != -100]
        assert tokenizer.decode(labels) == "".join(f"{answer}<|im_end|>" for answer in answers)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=conversations(others=()), name=st.sampled_from(["chatml", "llama3", "alpaca"]))
def test_any_conversation_in_named_templates(tokenizer: Any, messages: list[dict[str, str]], name: str) -> None:
    tokenizer.bos_token = "<s>"
    example = rendered(tokenizer, messages, chat_template=name)
    assert text_of(example) == tokenizer.apply_chat_template(messages, chat_template=NAMED[name], tokenize=False)
    answers = [message["content"].strip() for message in messages if message["role"] == "assistant"]
    assert [text.strip() for text in trained(example)][::2] == answers


def test_real_conversations(tokenizer: Any) -> None:
    path = SHARED / "chat_sharegpt_fastchat" / "dummy_conversation.json"
    if not path.is_file():
        pytest.skip("the real data sets are not beside this checkout")
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert len(rows) == 500
    names = {"human": "user", "gpt": "assistant"}
    for row in rows:
        (example,) = render(row, SHAREGPT, tokenizer)
        tokens = tokenize_example(example, tokenizer)
        messages = [{"role": names[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
        assert (tokens.input_ids, tokens.labels) == plainly(tokenizer, messages)


def test_a_content_of_one_part_of_text_is_that_text(tokenizer: Any) -> None:
    def chat(content: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]}

    plain, parts = chat("Hello"), chat([{"type": "text", "text": "Hello", "image": None}])
    assert render(parts, {}, tokenizer) == render(plain, {}, tokenizer)
    assert conversation({"messages": [*parts["messages"]]}, {}) == conversation(plain, {})
    for content in ([{"type": "text", "text": "a"}, "b"], [{"type": "text", "text": 3}], []):
        with pytest.raises(RowError, match=r"the content of message 2 \(assistant\) is"):
            render(chat(content), {}, tokenizer)


LISTS = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\n' -}}"
    "{%- if message.content is string -%}{{- message.content -}}{%- else -%}"
    "{%- for part in message.content -%}{{- part.text -}}{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)


@pytest.mark.parametrize(
    ("template", "whole"),
    [
        (None, "one \n two"),
        (LISTS, "one  two"),
        (LISTS.replace("part.text", "part.text | trim"), "onetwo"),
        (LISTS.replace("part.text", "part.text + ' | '"), "one  |  two"),
        (LISTS.replace("message.content is string", "true"), "one \n two"),
        (LISTS.replace("part.text", "part | tojson"), "one \n two"),
    ],
    ids=["texts alone", "as they are", "trimmed", "parted", "no lists", "as JSON"],
)
def test_parts_of_text_are_joined_as_the_template_does(tokenizer: Any, template: str | None, whole: str) -> None:
    def chat(content: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "yes"}]}

    options = {"chat_template": "jinja", "chat_template_jinja": template} if template else {}
    parts = chat([{"type": "text", "text": "one "}, {"type": "text", "text": " two", "image_url": None}])
    assert render(parts, options, tokenizer) == render(chat(whole), options, tokenizer)
    assert conversation(parts, {}) is None


def test_ranges_of_characters_need_a_text(tokenizer: Any) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    answer = {"role": "assistant", "content": parts, "ranges": [{"begin_offset": 0, "end_offset": 0, "train": True}]}
    row = {"messages": [{"role": "user", "content": "Hi"}, answer]}
    with pytest.raises(RowError, match="message 2 has several parts: ranges of its characters cannot be told"):
        render(row, {"message_field_training_detail": "ranges"}, tokenizer)


def test_a_picture_is_refused_with_its_kind(tokenizer: Any) -> None:
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "a.png"}}]
    row = {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "a cat"}]}
    with pytest.raises(
        RowError, match=r"message 1 \(user\) is a list with parts of type 'image_url', not text"
    ) as error:
        render(row, {}, tokenizer)
    assert error.value.help == "only text can be trained on: leave such rows out"
