"""What flows as data: a row's segments and examples, the items held out, and the data that are prepared of them.

With the words that all of the types are written in. Imports no torch: everything here is looked at by `check`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from core.data.stream import Stream

    Tokenizer = PreTrainedTokenizerBase
    Module = torch.nn.Module

Schema = dict[str, Any]
Options = Mapping[str, Any]
Row = Mapping[str, Any]
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Segment:
    """A piece of an example's text.

    `trained` marks text whose tokens carry loss; `answer` marks what evaluation takes as the reference. The end-of-turn
    mark is usually a segment of its own: trained (the model must learn to stop) but not part of the answer. `thought`
    marks what a model writes before its answer: it is no part of the prompt. The last of such segments is the mark that
    ends the thinking.
    """

    text: str
    trained: bool = False
    answer: bool = False
    thought: bool = False


@dataclass(frozen=True)
class Example:
    """One training example: segments of text, or (for tokenised rows) `input_ids` and `labels` of equal length.

    notes: what the user should know about how it was rendered; equal notes are counted and shown once.
    """

    segments: Sequence[Segment] = ()
    input_ids: Sequence[int] | None = None
    labels: Sequence[int] | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Item:
    """One held-out item, as an evaluator sees it.

    prompt: the exact text given to the model. references: acceptable answers, the first is the one shown.
    place: `file:line` of the row. facts: numbers core measured for this item in the column being scored, for evaluators
    that ask for them through `needs` ("latency": `seconds`, `tokens`, `first_token`; "likelihood": `nll` in nats and
    `tokens`; "choices": see `Evaluator`). thinking_ends: the mark behind which the answer stands, of a model that is
    trained to think first; metrics see what comes after it.
    """

    index: int
    row: Row
    prompt: str
    references: tuple[str, ...]
    place: str
    facts: Mapping[str, float] = field(default_factory=dict)
    thinking_ends: str = ""


@dataclass(frozen=True)
class Conversation:
    """A row as it would be put to a chat model. instruction: what to do, or None. turns: maps of `role` and `content`,
    up to and with the question; the answer is left out."""

    instruction: str | None
    turns: tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class Data:
    """Prepared data. `train` and `val` hold columns `input_ids` and `labels` (equal length, -100 = not trained) plus
    `place` (`file:line`); `test` are the held-out items. stats: counts per data set, JSON-ready, saved with the run.
    stream: with `streaming: true`, what to train on; `train` then holds the first rows alone, to plan with."""

    train: Dataset
    val: Dataset | None
    test: tuple[Item, ...]
    stats: Mapping[str, Any]
    pad_token_id: int = 0
    stream: Stream | None = None

    def batches(self, micro_batch_size: int) -> Any:
        """One pass over `train` in order: padded `input_ids`, `attention_mask` and `labels`, each [batch, length]."""
        from core.data.batches import padded_batches

        return padded_batches(self.train, micro_batch_size, self.pad_token_id)
