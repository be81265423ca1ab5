"""The `chat_template` format: conversations, rendered by a chat template.

Reads OpenAI files (`messages` of role and content) and, through two options, ShareGPT files (`conversations` of from
and value). The text is exactly what the template gives for the whole conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core import Conversation, DatasetFormat, Example, RowError, Segment, hookimpl, load_fragment
from core.data.chat_templates import resolve_chat_template
from plugins.formats.chat_template.messages import Message, read_messages, role_names
from plugins.formats.chat_template.turns import Turn, find_turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
THINKING_NOTE = "what the template writes between its generation prompt and the answer is trained with the answer"


def render(row: Mapping[str, Any], options: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """One example: the conversation, with the messages of the roles to train and their ends of turn trained."""
    template = resolve_chat_template(tokenizer, options.get("chat_template"), options.get("chat_template_jinja"))
    messages = read_messages(row, options, template)
    trained = _trained(messages, options)
    for number, (message, is_trained) in enumerate(zip(messages, trained, strict=True), start=1):
        if is_trained and not message["content"].strip():
            raise RowError(f"message {number} ({message['role']}) is empty")
    turns, tail = find_turns(messages, template, tokenizer, tuple(options.get("eot_tokens") or ()))
    whole = bool(options.get("train_on_inputs"))
    segments = list(_segments(messages, turns, trained, options.get("train_on_eos") or "turn"))
    segments = [segment for segment in [*segments, Segment(tail)] if segment.text]
    if whole:
        segments = [Segment(segment.text, trained=True, answer=segment.answer) for segment in segments]
    notes = dict.fromkeys(
        # the note holds the thinking itself, another one in each row
        THINKING_NOTE if message.keys() - {"role", "content"} and turn.lead.strip() else turn.note
        for message, turn, train in zip(messages, turns, trained, strict=True)
        if train and turn.note
    )
    return [Example(segments, notes=tuple(notes))]


def conversation(row: Mapping[str, Any], options: Mapping[str, Any]) -> Conversation | None:
    """The turns up to the last answer, a leading system turn as the instruction; None for tool calls and parts, which
    have no plain wording."""
    messages = row.get(options.get("field_messages") or "messages")
    names = {"role": "role", "content": "content", **(options.get("message_property_mappings") or {})}
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        return None
    turns: list[dict[str, str]] = []
    for message in messages:
        role, content = message.get(names["role"]), message.get(names["content"])
        if not isinstance(role, str) or not isinstance(content, str):
            return None
        turns.append({"role": SPEAKERS.get(role, role), "content": content})
    while turns and turns[-1]["role"] != "assistant":
        turns.pop()
    system = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else None
    return Conversation(system, tuple(turns[:-1])) if len(turns) > 1 else None


def _trained(messages: Sequence[Message], options: Mapping[str, Any]) -> list[bool]:
    """Whether each message is of a role to train."""
    names = role_names(options)
    wanted = {names.get(role, role) for role in options.get("roles_to_train", ["assistant"])}
    return [message["role"] in wanted for message in messages]


def _segments(
    messages: Sequence[Message], turns: Sequence[Turn], trained: Sequence[bool], train_on_eos: str
) -> Iterator[Segment]:
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    for index, (turn, train) in enumerate(zip(turns, trained, strict=True)):
        answer = index == answers[-1] if answers else False
        lead, content = turn.lead, turn.content
        if not lead.strip():
            # a space or line break in front of the answer is one token with its first word in most vocabularies
            lead, content = "", lead + content
        end = {"all": True, "turn": train, "last": index == len(turns) - 1, "none": False}[train_on_eos]
        yield Segment(turn.header)
        yield Segment(lead, trained=train)
        yield Segment(content, trained=train, answer=answer)
        yield Segment(turn.end, trained=end)


@hookimpl
def dataset_formats() -> list[DatasetFormat]:
    description = "Conversations, rendered by the tokenizer's chat template, a named one, or jinja text."
    return [
        DatasetFormat(
            name,
            render,
            options_schema=load_fragment("chat_template"),
            description=description,
            conversation=conversation,
        )
        # the second is another name of the first in recipes for axolotl
        for name in ("chat_template", "chat_template.default")
    ]
