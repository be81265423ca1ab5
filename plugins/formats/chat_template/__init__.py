"""The `chat_template` format: conversations, rendered by a chat template.

Reads OpenAI files (`messages` of role and content) and, through two options, ShareGPT files (`conversations` of from
and value). The text is exactly what the template gives for the whole conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from core import (
    Conversation,
    DatasetFormat,
    Example,
    Problem,
    RowError,
    Segment,
    UserError,
    hookimpl,
    load_fragment,
)
from core.data.chat_templates import resolve_chat_template, unread_variables
from plugins.formats.chat_template.contents import text_of
from plugins.formats.chat_template.messages import (
    Spoken,
    beside_thinking,
    read_messages,
    role_names,
    thoughts_of,
)
from plugins.formats.chat_template.tools import CALLS, read_tools
from plugins.formats.chat_template.training import UNSAID, parts_of
from plugins.formats.chat_template.turns import Turn, find_turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from core import Recipe

SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
TOOLS_NOTE = "the chat template shows no tools: those of the rows are left out"
THINKING_NOTE = "what the template writes between its generation prompt and the answer is trained with the answer"


def render(row: Mapping[str, Any], options: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """One example: the conversation, with the messages of the roles to train and their ends of turn trained."""
    template = resolve_chat_template(
        tokenizer,
        options.get("chat_template"),
        options.get("chat_template_jinja"),
        options.get("chat_template_kwargs"),
    )
    spoken = read_messages(row, options, template, tokenizer)
    messages = [one.message for one in spoken]
    tools = read_tools(row, options)
    trained = _trained(spoken, options)
    for number, (message, is_trained) in enumerate(zip(messages, trained, strict=True), start=1):
        if is_trained and not message["content"].strip() and not message.get(CALLS):
            raise RowError(f"message {number} ({message['role']}) is empty")
    marks = tuple(options.get("eot_tokens") or ())
    turns, tail = find_turns(messages, template, tokenizer, marks, tools)
    rule = _rule(options, tokenizer.eos_token, marks)
    segments = list(_segments(spoken, turns, trained, rule, options))
    segments = [*segments, Segment(tail, trained=bool(options.get("train_on_inputs")))]
    notes = dict.fromkeys(
        # the note holds the thinking itself, another one in each row
        THINKING_NOTE if message.keys() - {"role", "content"} and turn.lead.strip() else turn.note
        for message, turn, train in zip(messages, turns, trained, strict=True)
        if train and turn.note
    )
    for message, turn, train in zip(messages, turns, trained, strict=True):
        for name in (
            beside_thinking(message, turn.lead, options) if train and message.keys() - {"role", "content"} else ()
        ):
            notes[
                f"what the template writes of {name!r} before an answer is part of the question in evaluation: "
                f"if it is thinking, set template_thinking_key: {name}"
            ] = None
    if tools and "tools" not in template:
        notes[TOOLS_NOTE] = None
    for name in unread_variables(template):
        notes[f"the chat template reads no variable {name!r}: chat_template_kwargs does nothing with it"] = None
    return [Example([segment for segment in segments if segment.text], notes=tuple(notes))]


def _trained(spoken: Sequence[Spoken], options: Mapping[str, Any]) -> list[bool]:
    """Whether any of each message is trained: as it says itself, or as its role does."""
    names = role_names(options)
    wanted = {names.get(role, role) for role in options.get("roles_to_train", ["assistant"])}
    return [one.training.decide(one.message["role"] in wanted) for one in spoken]


@dataclass(frozen=True)
class _Rule:
    """When ends of turns are trained. eos, eot: train_on_eos and train_on_eot; eos_token: what eos is for."""

    eos: str
    eot: str
    eos_token: str | None

    def trains(self, end: str, train: bool, last: bool) -> bool:
        """Whether an end of turn is trained. train: its turn is; last: it is the last turn."""
        rule = self.eos if self.eos_token and end.endswith(self.eos_token) else self.eot
        return {"all": True, "turn": train, "last": last, "none": False}[rule]


def _rule(options: Mapping[str, Any], eos_token: str | None, marks: Sequence[str]) -> _Rule:
    eos = options.get("train_on_eos") or "turn"
    eot = options.get("train_on_eot") or eos
    if eos_token in marks and eos != eot:
        raise UserError(
            f"train_on_eos is {eos!r}, train_on_eot is {eot!r}, and {eos_token!r} is both",
            help="take it out of eot_tokens, or set both to the same",
        )
    return _Rule(eos, eot, eos_token)


def _segments(
    spoken: Sequence[Spoken],
    turns: Sequence[Turn],
    trained: Sequence[bool],
    rule: _Rule,
    options: Mapping[str, Any],
) -> Iterator[Segment]:
    """The pieces of the text."""
    whole = bool(options.get("train_on_inputs"))  # all is trained but what a message itself takes out
    answers = [index for index, one in enumerate(spoken) if one.message["role"] == "assistant"]
    for index, (one, turn, train) in enumerate(zip(spoken, turns, trained, strict=True)):
        answer = index == answers[-1] if answers else False
        free = whole and one.training == UNSAID
        lead, content = turn.lead, turn.content
        if not lead.strip():
            # a space or line break in front of the answer is one token with its first word in most vocabularies
            lead, content = "", lead + content
        yield _fixed(turn.header, whole)
        for text, thought in thoughts_of(one.message, lead, options) if lead else ():
            yield Segment(text, trained=free or train, thought=thought)
        if one.training.ranges and train:
            if one.message.get(CALLS):
                raise RowError(f"message {index + 1} calls tools: ranges of its characters cannot be told")
            before = len(content) - len(turn.content)
            pieces = parts_of(turn.content, one.message["content"], one.training.ranges, index + 1)
            yield Segment(content[:before], trained=pieces[0][1], answer=answer)
            yield from (Segment(text, trained=is_trained, answer=answer) for text, is_trained in pieces)
        else:
            yield Segment(content, trained=free or train, answer=answer)
        last = index == len(turns) - 1
        end, after = turn.end, ""
        if rule.eos_token and (place := end.find(rule.eos_token)) > 0 and end[:place].strip():
            # an end-of-text token that follows the end-of-turn token has a rule of its own
            end, after = end[:place], end[place:]
        yield _fixed(end, free or rule.trains(end, train, last))
        if after:
            yield _fixed(after, free or rule.trains(after, train, last))


@lru_cache(maxsize=1024)
def _fixed(text: str, trained: bool) -> Segment:
    """A piece of the template's own text, which is the same in most rows."""
    return Segment(text, trained=trained)


def conversation(row: Mapping[str, Any], options: Mapping[str, Any]) -> Conversation | None:
    """The turns up to the last answer, a leading system turn as the instruction; None for tool calls and parts, which
    have no plain wording."""
    messages = row.get(options.get("field_messages") or "messages")
    names = {"role": "role", "content": "content", **(options.get("message_property_mappings") or {})}
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        return None
    turns: list[dict[str, str]] = []
    for message in messages:
        role, content = message.get(names["role"]), text_of(message.get(names["content"]))
        if not isinstance(role, str) or not isinstance(content, str):
            return None
        turns.append({"role": SPEAKERS.get(role, role), "content": content})
    while turns and turns[-1]["role"] != "assistant":
        turns.pop()
    system = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else None
    return Conversation(system, tuple(turns[:-1])) if len(turns) > 1 else None


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


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """Tells a `roles_to_train` that is written as null, of which one may expect something else than of none at all."""
    names = [one.name for one in dataset_formats()]
    entries = recipe.values.get("datasets") or []
    places = [
        ("datasets", index, "roles_to_train") for index, entry in enumerate(entries) if entry.get("type") in names
    ]
    return [
        Problem(
            "'roles_to_train' is null, which is the same as unset: all messages of the assistant are trained",
            key=place,
            severity="warning",
            help="remove it, or write [assistant]; axolotl's manual says that null trains the last message alone, "
            "but its code drops the null and does as here",
        )
        for place in places
        if place in recipe.positions and "roles_to_train" not in entries[place[1]]
    ]
