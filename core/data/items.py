"""Held-out items: what an evaluator sees of an example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.errors import RowError
from core.types import Example, Item, Row, Segment

if TYPE_CHECKING:
    from core.types import Tokenizer


def item_of(example: Example, row: Row, place: str, index: int, tokenizer: Tokenizer) -> Item:
    """The item that `example` makes: everything before the last answer is the prompt, the answer is the reference.
    What the row thinks before its answer is part of neither.

    Adjacent answer segments are one answer. Raises `RowError` if there is no answer, or nothing before it.
    """
    start, end = answer_span(example.segments)
    if start == end:
        raise RowError("there is no answer to compare with", help="use a format that marks answers, or leave it out")
    asked = prompt_end(example.segments, start)
    prompt = "".join(segment.text for segment in example.segments[:asked])
    if not prompt:
        raise RowError("there is no prompt before the answer")
    mark = example.segments[start - 1].text.strip() if asked < start else ""
    reference = "".join(segment.text for segment in example.segments[start:end])
    return Item(index, row, prompt, (reference,), place, thinking_ends=mark)


def prompt_end(segments: Sequence[Segment], answer: int) -> int:
    """One past the last segment of the prompt whose answer begins at `answer`: thinking stands between them."""
    end = answer
    while end and segments[end - 1].thought:
        end -= 1
    return end


def answer_span(segments: Sequence[Segment]) -> tuple[int, int]:
    """(first, one past the last) of the last run of answer segments; equal if there is none."""
    end = len(segments)
    while end and not segments[end - 1].answer:
        end -= 1
    start = end
    while start and segments[start - 1].answer:
        start -= 1
    return start, end
