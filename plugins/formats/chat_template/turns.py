"""Finds the turns of a conversation in the text that a chat template makes of it.

A template is a program, so the places are found by running it: with the conversation, and (once for all conversations
of the same roles) with a mark in place of every content. What stands between the marks is the template's own text.
Where a template treats contents in a way that this does not explain (reasoning that it cuts out, say), the messages
are marked one at a time. The pieces always join to exactly the text of the conversation, or the row is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from core import RowError
from plugins.formats.chat_template.calls import span_of_calls
from plugins.formats.chat_template.ends import Ends, ends_of
from plugins.formats.chat_template.plain import is_plain
from plugins.formats.chat_template.rendering import Render, mark_of, prompt_of, renderer
from plugins.formats.chat_template.tools import CALLS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from plugins.formats.chat_template.messages import Message

TRIMS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: text.strip(),
    lambda text: text.lstrip(),
    lambda text: text.rstrip(),
    lambda text: text.strip("\n"),
    lambda text: text.lstrip("\n"),
)
OTHER_PROMPT = (
    "the template's generation prompt is not how it begins an answer in a conversation: "
    "evaluation uses the beginning that is trained"
)


class Turn(NamedTuple):
    """One message in the text. header: the template's text before it, up to where a model is asked to go on.

    lead: the template's text from there to the content; end: its text after the content, to the end-of-turn mark.
    note: what the user should know about it.
    """

    header: str
    lead: str
    content: str
    end: str
    note: str = ""


def find_turns(
    messages: Sequence[Message],
    template: str,
    tokenizer: PreTrainedTokenizerBase,
    eot_tokens: tuple[str, ...] = (),
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[list[Turn], str]:
    """The turns, and the text after the last. Joined, they are the template's text of the conversation.

    Raises `RowError` where the template refuses the conversation, or its text cannot be told apart into turns.
    """
    render = renderer(template, tokenizer, tools)
    simple = not tools and all(message.keys() == {"role", "content"} for message in messages)
    roles = tuple([message["role"] for message in messages])
    known = _plain_skeleton(tokenizer, template, roles, eot_tokens) if simple else None
    if known is not None:
        (turns, tail), trims = known
        contents = [trim(message["content"]) for trim, message in zip(trims, messages, strict=True)]
        return _filled(turns, contents), tail
    full = render(messages)
    if any(message.get(CALLS) for message in messages):
        return _find_one_by_one(messages, full, render, ends_of(tokenizer, eot_tokens))
    if simple:
        skeleton = _common_skeleton(tokenizer, template, roles, eot_tokens)
    else:
        skeleton = _skeleton(messages, render, ends_of(tokenizer, eot_tokens))
    if skeleton is not None:
        fitting = _fit(skeleton, [message["content"] for message in messages], full)
        if fitting is not None:
            return _filled(skeleton[0], fitting), skeleton[1]
    return _find_one_by_one(messages, full, render, ends_of(tokenizer, eot_tokens))


def _filled(turns: Sequence[Turn], contents: Sequence[str]) -> list[Turn]:
    pairs = zip(turns, contents, strict=True)
    return [Turn(turn.header, turn.lead, content, turn.end, turn.note) for turn, content in pairs]


@lru_cache(maxsize=4096)
def _common_skeleton(
    tokenizer: PreTrainedTokenizerBase, template: str, roles: tuple[str, ...], eot_tokens: tuple[str, ...]
) -> tuple[list[Turn], str] | None:
    """The skeleton of all conversations whose messages have these roles, and nothing besides a content."""
    messages = [{"role": role, "content": ""} for role in roles]
    return _skeleton(messages, renderer(template, tokenizer), ends_of(tokenizer, eot_tokens))


@lru_cache(maxsize=4096)
def _plain_skeleton(
    tokenizer: PreTrainedTokenizerBase, template: str, roles: tuple[str, ...], eot_tokens: tuple[str, ...]
) -> tuple[tuple[list[Turn], str], list[Callable[[str], str]]] | None:
    """The skeleton of all conversations of these roles, and what becomes of each content, where the template leaves no
    doubt about it (see `plain`): such conversations are not rendered one by one."""
    from transformers import PreTrainedTokenizerBase

    if not is_plain(template) or type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template:
        return None
    skeleton = _common_skeleton(tokenizer, template, roles, eot_tokens)
    if skeleton is None:
        return None
    spaced = [f" \n\t{mark_of(index)}\n " for index in range(len(roles))]
    messages = [{"role": role, "content": content} for role, content in zip(roles, spaced, strict=True)]
    text = renderer(template, tokenizer)(messages)
    found = _fit(skeleton, spaced, text)
    if found is None or any(text.count(mark_of(index)) != 1 for index in range(len(roles))):
        return None
    # one of them fits, or nothing would have been found
    trims = [next(trim for trim in TRIMS if trim(given) == made) for given, made in zip(spaced, found, strict=True)]
    return skeleton, trims


def _skeleton(messages: Sequence[Message], render: Render, ends: Ends) -> tuple[list[Turn], str] | None:
    """The turns of the conversation with empty contents; None if marked contents do not come out as they went in."""
    marked: list[Message] = [{**message, "content": mark_of(index)} for index, message in enumerate(messages)]
    try:
        text = render(marked)
    except RowError:
        return None
    texts = []
    rest = text
    for index in range(len(messages)):
        before, mark, rest = rest.partition(mark_of(index))
        if not mark:
            return None
        texts.append(before)
    texts.append(rest)
    turns, start, taken = [], 0, 0
    for index, message in enumerate(messages):
        own = texts[index][taken:]
        header, lead, note = own, "", ""
        if message["role"] == "assistant" and index:
            header, lead, note = _part_at_prompt(own, text, start + taken, prompt_of(marked[:index], render))
        after = start + len(texts[index]) + len(mark_of(index))
        end = ends.find(texts[index + 1])
        if end is None:
            end = _end_without_mark(text, after, len(texts[index + 1]), marked[: index + 1], render)
        turns.append(Turn(header, lead, "", end, note))
        start, taken = after, len(end)
    return turns, texts[-1][taken:]


def _part_at_prompt(own: str, text: str, start: int, prompt: str | None) -> tuple[str, str, str]:
    """`own`, the template's text at `start`, as (header, lead, note), parted where `prompt` ends."""
    if prompt is None or not text.startswith(prompt) or not start <= len(prompt) <= start + len(own):
        return own, "", OTHER_PROMPT
    lead = own[len(prompt) - start :]
    note = ""
    if lead.strip():
        note = f"the template puts {lead!r} between its generation prompt and the answer: it is trained with the answer"
    return own[: len(prompt) - start], lead, note


def _end_without_mark(text: str, after: int, length: int, messages: Sequence[Message], render: Render) -> str:
    """What closes a turn that no known token ends: the text that the template adds when it is the last one."""
    try:
        shorter = render(messages)
    except RowError:
        return ""
    if not text.startswith(shorter) or len(shorter) > after + length:
        return ""
    return text[after : len(shorter)].rstrip()


def _fit(skeleton: tuple[list[Turn], str], contents: Sequence[str], full: str) -> list[str] | None:
    """The contents as they stand in `full`, perhaps trimmed; None if `full` is not the skeleton with contents."""
    turns, tail = skeleton
    following = [turn.header + turn.lead for turn in turns[1:]]
    at = len(turns[0].header) + len(turns[0].lead)
    if not full.startswith(turns[0].header + turns[0].lead):
        return None
    found = []
    for index, (turn, content) in enumerate(zip(turns, contents, strict=True)):
        after = turn.end + (following[index] if index < len(following) else tail)
        for trim in TRIMS:
            text = trim(content)
            if full.startswith(text + after, at):
                break
        else:
            return None
        found.append(text)
        at += len(text) + len(after)
    return found if at == len(full) else None


def _find_one_by_one(messages: Sequence[Message], full: str, render: Render, ends: Ends) -> tuple[list[Turn], str]:
    """The turns found by putting a mark in place of one content at a time."""
    spans: list[tuple[int, int, str | None]] = []
    at = 0
    for index, message in enumerate(messages):
        if message.get(CALLS):
            spans.append(span_of_calls(messages, index, full, at, render, ends))
            at = spans[-1][1]
            continue
        marked: list[Message] = [*messages[:index], {**message, "content": mark_of(index)}, *messages[index + 1 :]]
        text = render(marked)
        if text == full:
            raise RowError(
                f"the chat template leaves out message {index + 1} ({message['role']})",
                help="use a chat_template that shows this role, or take such messages out of the data",
            )
        before, _, after = text.partition(mark_of(index))
        prompt = prompt_of(messages[:index], render) if message["role"] == "assistant" and index else None
        start, stop = len(before), len(full) - len(after)
        if not full.startswith(before) and prompt is not None and full.startswith(prompt):
            start = len(prompt)
        elif not full.startswith(before):
            start = -1
        if not at <= start <= stop or not full.endswith(after):
            raise RowError(
                f"the chat template changes message {index + 1} ({message['role']}) so that its ends cannot be found",
                help="use another chat_template, or give one with chat_template_jinja",
            )
        spans.append((start, stop, prompt))
        at = stop
    turns, at = [], 0
    for index, (start, stop, prompt) in enumerate(spans):
        header, lead, note = full[at:start], "", ""
        if prompt is not None:
            header, lead, note = _part_at_prompt(header, full, at, prompt)
        next_start = spans[index + 1][0] if index + 1 < len(spans) else len(full)
        end = ends.find(full[stop:next_start]) or ""
        turns.append(Turn(header, lead, full[start:stop], end, note))
        at = stop + len(end)
    return turns, full[at:]
