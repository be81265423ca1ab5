"""The `pretokenised` format: rows that hold token ids, as the model's own tokenizer makes them.

It is what a data set without a `type` is taken for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core import DatasetFormat, Example, RowError, hookimpl
from core.data.formats import describe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAME = "pretokenised"
IGNORED = -100


def render(row: Mapping[str, Any], options: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """The row's `input_ids` and `labels`; without labels every token is trained. Padding (attention_mask 0) is left
    out."""
    ids = _numbers(row, "input_ids")
    labels = _numbers(row, "labels") if row.get("labels") is not None else ids
    mask = _numbers(row, "attention_mask") if row.get("attention_mask") is not None else [1] * len(ids)
    for name, given in (("labels", labels), ("attention_mask", mask)):
        if len(given) != len(ids):
            raise RowError(f"input_ids has {len(ids)} entries, {name} has {len(given)}", field=name)
    kept = [(token, label) for token, label, shown in zip(ids, labels, mask, strict=True) if shown]
    for token, label in kept:
        if not 0 <= token < len(tokenizer):
            help = "the rows were made with another tokenizer: tokenise their texts again, with this model's"
            raise RowError(f"token id {token} is not in the vocabulary of {len(tokenizer):,}", help=help)
        if label not in (IGNORED, token):
            raise RowError(f"label {label} is neither its own token {token} nor {IGNORED}", field="labels")
    return [Example(input_ids=[token for token, _ in kept], labels=[label for _, label in kept])]


def _numbers(row: Mapping[str, Any], field: str) -> list[int]:
    given = row[field]
    if not isinstance(given, list) or any(type(number) is not int for number in given):
        said = f"is {describe(given)}"
        if isinstance(given, list):
            said = f"holds {describe(next(entry for entry in given if type(entry) is not int))}"
        raise RowError(f"field {field!r} {said}, not a list of whole numbers", field=field)
    if not given:
        raise RowError(f"field {field!r} is empty", field=field)
    return given


@hookimpl
def dataset_formats() -> list[DatasetFormat]:
    return [DatasetFormat(NAME, render, description="Rows of token ids: input_ids and, if they differ, labels.")]
