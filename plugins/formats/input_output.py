"""The `input_output` format: segments of text, each said to be trained or not, put together as they are.

Nothing is added, so rows bring their own end-of-text token; a text that ends in it teaches the model to stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from core import DatasetFormat, Example, RowError, Segment, hookimpl
from core.data.formats import describe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def render(row: Mapping[str, Any], options: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """The row's segments; the last one that is trained is the answer, without its end-of-text token."""
    given = row["segments"]
    if not isinstance(given, list) or not given:
        said = "an empty list" if given == [] else describe(given)
        raise RowError(f"field 'segments' is {said}, not a list of segments", field="segments")
    parts = [_read(segment, number) for number, segment in enumerate(given, start=1)]
    last = max((index for index, (_, trained) in enumerate(parts) if trained), default=None)
    segments: list[Segment] = []
    for index, (text, trained) in enumerate(parts):
        segments += _answer(text, tokenizer.eos_token) if index == last else [Segment(text, trained)]
    return [Example([segment for segment in segments if segment.text])]


def _read(segment: Any, number: int) -> tuple[str, bool]:
    if not isinstance(segment, dict):
        raise RowError(f"segment {number} is {describe(segment)}, not an object with a label and a text")
    for key in ("label", "text"):
        if key not in segment:
            raise RowError(f"segment {number} has no {key!r}; it has: {', '.join(segment) or 'nothing'}")
    if not isinstance(segment["label"], bool):
        raise RowError(f"the label of segment {number} is {describe(segment['label'])}, not true or false")
    if not isinstance(segment["text"], str):
        raise RowError(f"the text of segment {number} is {describe(segment['text'])}, not text")
    return segment["text"], segment["label"]


def _answer(text: str, eos: str | None) -> Iterator[Segment]:
    """A trained text as the answer, and its end-of-text token, if it has one, as a segment of its own."""
    answer = text.removesuffix(eos) if eos else text
    yield Segment(answer, trained=True, answer=True)
    if answer != text:
        yield Segment(text[len(answer) :], trained=True)


@hookimpl
def dataset_formats() -> list[DatasetFormat]:
    return [
        DatasetFormat(
            "input_output",
            render,
            description="Rows of segments, each with a text and a label that says whether it is trained.",
        )
    ]
