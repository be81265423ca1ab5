"""The `pygmalion` format: conversations between a user and a character, in the text of the Pygmalion models.

Rows hold `conversations`, a list of messages of `role` (system, human or bot) and `value`. Every reply of the character
is trained, with the end of text after it. The text is that of axolotl's format of this name (see NOTICE).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from core import DatasetFormat, Example, RowError, Segment, hookimpl, load_fragment
from core.data.formats import describe, end_of_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAME, FIELD = "pygmalion", "conversations"
MARKS = {"system": "<|system|>", "human": "<|user|>", "bot": "<|model|>"}
START = "\n<START>"


def render(row: Mapping[str, Any], options: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """The turns one after the other; the replies are trained, and the last of them is the answer."""
    given = row[FIELD]
    if not isinstance(given, list) or not given:
        said = "an empty list" if given == [] else describe(given)
        raise RowError(f"field {FIELD!r} is {said}, not a list of messages", field=FIELD)
    turns = [_read(message, number) for number, message in enumerate(given, start=1)]
    replies = [index for index, (role, _) in enumerate(turns) if role == "bot"]
    whole, end = bool(options.get("train_on_inputs")), end_of_text(tokenizer)
    segments: list[Segment] = []
    for index, (role, text) in enumerate(turns):
        segments += _segments(role, text, end, whole=whole, answer=index == replies[-1] if replies else False)
    return [Example(segments)]


def _read(message: Any, number: int) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise RowError(f"message {number} is {describe(message)}, not an object with a role and a value")
    for key in ("role", "value"):
        if key not in message:
            raise RowError(f"message {number} has no {key!r}; it has: {', '.join(message) or 'nothing'}")
        if not isinstance(message[key], str):
            raise RowError(f"the {key} of message {number} is {describe(message[key])}, not text")
    if message["role"] not in MARKS:
        raise RowError(f"message {number} has the role {message['role']!r}, which is none of {', '.join(MARKS)}")
    if message["role"] == "bot" and not message["value"].strip():
        raise RowError(f"message {number} (bot) is empty")
    return message["role"], message["value"]


def _segments(role: str, text: str, end: str, *, whole: bool, answer: bool) -> Iterator[Segment]:
    if role == "bot":
        yield Segment(MARKS[role], trained=whole)
        # the space is one token with the first word in most vocabularies
        yield Segment(f" {text.strip()}", trained=True, answer=answer)
        yield Segment(end, trained=True)
    elif role == "system":
        yield Segment(f"{MARKS[role]}Persona: {text.removesuffix(START).strip()}", trained=whole)
    else:
        yield Segment(f"{MARKS[role]} {text.strip()}", trained=whole)


@hookimpl
def dataset_formats() -> list[DatasetFormat]:
    return [
        DatasetFormat(
            NAME,
            render,
            options_schema={"train_on_inputs": load_fragment("instruction")["train_on_inputs"]},
            description="Conversations with a character, as the Pygmalion models have them.",
        )
    ]
