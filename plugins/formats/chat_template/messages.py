"""Reads the messages of a row: their roles under the template's names, their contents as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from core import RowError
from core.data.columns import proposal, propose
from core.data.formats import describe
from plugins.formats.chat_template.contents import joined, kinds_of, texts_of
from plugins.formats.chat_template.tools import CALLS, read_calls
from plugins.formats.chat_template.training import UNSAID, Training, read_training

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, Any]


@dataclass(frozen=True)
class Spoken:
    """A message as the template takes it, and what it says of its own training."""

    message: Message
    training: Training = UNSAID


USUAL_NAMES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "tool",
}


USUAL_THINKING = "reasoning_content"
# what chat templates call the thinking of a message
THINKING_NAMES = (USUAL_THINKING, "reasoning", "thinking", "thought", "thoughts")
THINKING_MARKS = (
    ("<think>", "</think>"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)


def role_names(options: Mapping[str, Any]) -> dict[str, str]:
    """What each role of a file is called in the template."""
    own = {source: name for name, sources in (options.get("roles") or {}).items() for source in sources}
    return {**USUAL_NAMES, **own}


def read_messages(
    row: Mapping[str, Any], options: Mapping[str, Any], template: str, tokenizer: PreTrainedTokenizerBase
) -> list[Spoken]:
    """The row's messages as the template takes them. Raises `RowError` (message numbers count from 1)."""
    field = options.get("field_messages") or "messages"
    given = row[field]
    if not isinstance(given, list):
        text = isinstance(given, str) and given.lstrip().startswith("[")
        help = "the list is JSON inside a text: write the list itself" if text else None
        raise RowError(f"field {field!r} is {describe(given)}, not a list of messages", field=field, help=help)
    names = role_names(options)
    mapping = {"role": "role", "content": "content", **(options.get("message_property_mappings") or {})}
    spoken = []
    for number, written in enumerate(given, start=1):
        source = _with_text(written, mapping["content"], template, tokenizer)
        message = _with_thinking(_read(source, number, mapping, names, template, row), source, options)
        training = read_training(source, number, message["content"], options)
        if training.ranges and source is not written and len(written[mapping["content"]]) > 1:
            raise RowError(f"message {number} has several parts: ranges of its characters cannot be told")
        spoken.append(Spoken(message, training))
    if not spoken:
        raise RowError(f"field {field!r} holds no messages", field=field)
    return _with_system(spoken, row, options)


def _with_text(given: Any, key: str, template: str, tokenizer: PreTrainedTokenizerBase) -> Any:
    """A message whose content is a list of parts of text, with their text as its content; any other as it is."""
    texts = texts_of(given.get(key)) if isinstance(given, dict) else None
    return {**given, key: joined(texts, template, tokenizer)} if texts is not None else given


def _read(
    given: Any, number: int, mapping: dict[str, str], names: dict[str, str], template: str, row: Mapping[str, Any]
) -> Message:
    if not isinstance(given, dict):
        raise RowError(f"message {number} is {describe(given)}, not an object with a role and a content")
    if len(mapping) == 2 and given.keys() == set(mapping.values()):
        # most messages are no more than this
        role, content = given[mapping["role"]], given[mapping["content"]]
        if isinstance(role, str) and role in names and isinstance(content, str):
            return {"role": names[role], "content": content}
    calls = read_calls(given, number, mapping.get(CALLS, CALLS))
    for key in (mapping["role"], mapping["content"]):
        # a message that calls a tool need not say anything
        if key not in given and not (calls and key == mapping["content"]):
            help = propose(row) if number == 1 and set(proposal(row) or {}) - {"type"} else None
            raise RowError(f"message {number} has no {key!r}; it has: {', '.join(given) or 'nothing'}", help=help)
    role, content = given[mapping["role"]], given.get(mapping["content"])
    if calls and content is None:
        content = ""
    if not isinstance(role, str):
        raise RowError(f"the role of message {number} is {describe(role)}, not text")
    if role not in names:
        raise RowError(
            f"message {number} has the role {role!r}, which is none of {', '.join(names)}",
            help=f"if it is right, map it: roles: {{assistant: [{role}]}}, or user, or system",
        )
    if not isinstance(content, str):
        kinds, help = kinds_of(content), None
        if isinstance(content, list):
            help = f"only text can be trained on: {'leave such rows out' if kinds else 'write the parts as one text'}"
        raise RowError(f"the content of message {number} ({role}) is {describe(content)}{kinds}, not text", help=help)
    others = {name: given[key] for name, key in mapping.items() if name not in ("role", "content") and key in given}
    unmapped = {key: value for key, value in given.items() if key not in mapping.values() and _reads(template, key)}
    extras = {name: value for name, value in {**unmapped, **others}.items() if value is not None and name != CALLS}
    if calls:
        extras[CALLS] = calls
    return {**extras, "role": names[role], "content": content}


def _with_thinking(message: Message, given: Mapping[str, Any], options: Mapping[str, Any]) -> Message:
    """The message with its thinking under the name that the template reads, from a property or from its content."""
    field, key = options.get("field_thinking"), options.get("template_thinking_key")
    if field is None and key is None and not options.get("split_thinking"):
        return message
    field, key = field or USUAL_THINKING, key or USUAL_THINKING
    thinking = given.get(field)
    if thinking is not None and not isinstance(thinking, str):
        raise RowError(f"the thinking of a message ({field!r}) is {describe(thinking)}, not text")
    if options.get("split_thinking") and message["role"] == "assistant" and thinking is None:
        for start, end in THINKING_MARKS:
            before, marked, rest = message["content"].partition(start)
            inside, closed, after = rest.partition(end)
            if marked and closed and not before.strip():
                return {**message, key: inside.strip(), "content": after.lstrip()}
    rest_of = {name: value for name, value in message.items() if name != field or field == key}
    return {**rest_of, key: thinking} if thinking else rest_of


def thoughts_of(message: Message, lead: str, options: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """What the template writes before a content, in pieces of (text, the row's own thinking): up to the end of the
    thinking, and the mark that ends it. Thinking is what the recipe or its usual names call so. Text that is the same
    for every row is none, nor is what else a message has before its content, such as a speaker's name."""
    for name, place in _written_in(lead, message):
        if name in _thinking_names(options):
            yield lead[:place], True
            yield lead[place:], True
            return
    yield lead, False


def beside_thinking(message: Message, lead: str, options: Mapping[str, Any]) -> list[str]:
    """The properties that the template writes before a content and nothing calls thinking, other than a name."""
    return [name for name, _ in _written_in(lead, message) if name not in (*_thinking_names(options), "name")]


def _thinking_names(options: Mapping[str, Any]) -> tuple[str, ...]:
    return (*THINKING_NAMES, options.get("template_thinking_key") or USUAL_THINKING)


def _written_in(lead: str, message: Message) -> Iterator[tuple[str, int]]:
    """The texts of a message that stand in `lead`: their names, and where they end there."""
    for name, value in message.items():
        text = value.strip() if isinstance(value, str) and name not in ("role", "content") else ""
        if text and (place := lead.rfind(text)) >= 0:
            yield name, place + len(text)


@lru_cache(maxsize=256)
def _reads(template: str, key: str) -> bool:
    """Whether the template asks for a message's property `key`."""
    return re.search(rf"""(?:\.|['"]){re.escape(key)}\b""", template) is not None


def _with_system(spoken: list[Spoken], row: Mapping[str, Any], options: Mapping[str, Any]) -> list[Spoken]:
    """The messages with the system message that the row or the recipe has apart from them, or with none."""
    if options.get("drop_system_message"):
        left = [one for one in spoken if one.message["role"] != "system"]
        if not left:
            raise RowError("there is no message besides the system message")
        return left
    if spoken[0].message["role"] == "system":
        return spoken
    system = row.get(options.get("field_system") or "system") or options.get("default_system_message")
    if system is None:
        return spoken
    if not isinstance(system, str):
        raise RowError(f"the system message is {describe(system)}, not text")
    return [Spoken({"role": "system", "content": system}), *spoken]
