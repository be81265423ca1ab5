"""Finds the calls of tools in the text that a chat template makes of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from core import RowError
from plugins.formats.chat_template.ends import Ends
from plugins.formats.chat_template.rendering import Render, mark_of, prompt_of
from plugins.formats.chat_template.tools import CALLS

if TYPE_CHECKING:
    from plugins.formats.chat_template.messages import Message


def span_of_calls(
    messages: Sequence[Message], index: int, full: str, at: int, render: Render, ends: Ends
) -> tuple[int, int, str | None]:
    """Where the words and calls of a message begin and end in `full`, as the texts of shorter conversations show it."""
    name = f"message {index + 1} ({messages[index]['role']})"
    prompt = prompt_of(messages[:index], render) if index else None
    shorter = render(messages[: index + 1])
    silent = {key: value for key, value in messages[index].items() if key != CALLS}
    if shorter == render([*messages[:index], silent]):
        raise RowError(
            f"the chat template leaves out the tool calls of {name}", help="use a chat_template that shows tool calls"
        )
    start = (
        len(prompt) if prompt is not None and full.startswith(prompt) else _begin_of(messages, index, shorter, render)
    )
    if not full.startswith(shorter) or not at <= start:
        raise RowError(
            f"the tool calls of {name} cannot be found in the text of the chat template",
            help="use another chat_template, or give one with chat_template_jinja",
        )
    stop = len(shorter.rstrip())
    token = next((token for token in (*ends.known, *ends.special) if full.endswith(token, 0, stop)), "")
    return start, stop - len(token), prompt


def _begin_of(messages: Sequence[Message], index: int, shorter: str, render: Render) -> int:
    """Where the words or calls of a message begin in `shorter`, the text that ends with it, although the template asks
    for no answer there: where its text with words in place of the calls begins to be another. -1 if it refuses them."""
    words = {key: value for key, value in messages[index].items() if key != CALLS}
    try:
        text = render([*messages[:index], {**words, "content": mark_of(index)}])
    except RowError:
        return -1
    before, mark, _ = text.partition(mark_of(index))
    same = takewhile(lambda pair: pair[0] == pair[1], zip(before, shorter, strict=False))
    return len(list(same)) if mark else -1
