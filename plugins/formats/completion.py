"""The `completion` format: plain text, all of it trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core import DatasetFormat, Example, Segment, hookimpl, load_fragment
from core.data.formats import end_of_text, text_field

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def render(row: Mapping[str, Any], options: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """The text and the end of text, both trained. There is no answer in it to compare with."""
    text = text_field(row, options.get("field") or "text")
    return [Example([Segment(text, trained=True), Segment(end_of_text(tokenizer), trained=True)])]


@hookimpl
def dataset_formats() -> list[DatasetFormat]:
    return [
        DatasetFormat(
            "completion",
            render,
            options_schema=load_fragment("completion"),
            description="Rows of plain text, all of it trained.",
        )
    ]
