"""Reads, renders and tokenises one data set, and counts what comes out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from core.data.files import SourceRow
from core.data.items import answer_span, item_of
from core.data.render import BadRows, render_rows
from core.data.sources import shown
from core.data.tokenise import IGNORED, Tokenized, leading_ids, tokenize_examples
from core.errors import DataError, RowError
from core.types import DatasetPlan, Example, Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from core.types import Tokenizer

BATCH = 1000
SHOWN_PLACES = 10
END_WINDOW = 3  # an end-of-turn token must be among this many last trained tokens


@dataclass(frozen=True)
class Limits:
    """How long an example may be, in tokens, and what happens to a longer one: `drop`, `truncate` or `raise`."""

    sequence_len: int
    strategy: str


@dataclass
class Collected:
    """The examples of one data set: ids and labels (int32 arrays of equal length) and places, and the counts.

    answers: fingerprint of (prompt, last answer) -> place of the first example that has it.
    """

    dataset: DatasetPlan
    input_ids: list[NDArray[np.int32]] = field(default_factory=list)
    labels: list[NDArray[np.int32]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    answers: dict[bytes, str] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    too_long: list[str] = field(default_factory=list)

    def stats(self) -> dict[str, Any]:
        """The counts, JSON-ready. length_99: the sequence_len that would fit 99 % of the examples."""
        ordered = sorted(self.lengths)
        tokens, trained = self.counts["tokens"], self.counts["trained_tokens"]
        return {
            "path": shown(self.dataset.path),
            "type": self.dataset.format.name,
            "rows": self.counts["rows"],
            "examples": len(self.input_ids),
            "tokens": tokens,
            "trained_tokens": trained,
            "trained_share": trained / tokens if tokens else 0.0,
            "dropped_too_long": self.counts["dropped_too_long"],
            "truncated": self.counts["truncated"],
            "nothing_to_train": self.counts["nothing_to_train"],
            "straddling": self.counts["straddling"],
            "without_end": self.counts["without_end"],
            "longest": ordered[-1] if ordered else 0,
            "length_99": ordered[-(-len(ordered) * 99 // 100) - 1] if ordered else 0,
            "notes": dict(self.notes),
        }


def collect(dataset: DatasetPlan, tokenizer: Tokenizer, limits: Limits) -> Collected:
    """All usable examples of `dataset`. Raises `DataError` for rows that cannot be used, or too long with `raise`."""
    collected = Collected(dataset)
    ends = _end_ids(tokenizer)
    rendered = render_rows(dataset, tokenizer)
    while batch := list(islice(rendered, BATCH)):
        collected.counts["rows"] += len(batch)
        flat = [(row, example) for row, examples in batch for example in examples]
        for (row, example), tokens in zip(flat, _tokenize(dataset, flat, tokenizer), strict=True):
            collected.notes.update(example.notes)
            _take(collected, row.place, example, tokens, limits, ends)
    if collected.too_long and limits.strategy == "raise":
        _refuse_long(collected, limits)
    return collected


def collect_items(dataset: DatasetPlan, tokenizer: Tokenizer, first_index: int) -> list[Item]:
    """The held-out items of `dataset`, numbered from `first_index`. Raises `DataError` for rows that make none.

    `test_datasets` serve validation and evaluation alike, so rows without an answer are left out of the items there.
    """
    items: list[Item] = []
    serves_validation = dataset.key[:1] == ("test_datasets",)
    bad = BadRows(dataset)
    for row, examples in render_rows(dataset, tokenizer):
        bad.read += 1
        for example in examples:
            if serves_validation and answer_span(example.segments) == (0, 0):
                continue
            try:
                items.append(item_of(example, row.values, row.place, first_index + len(items), tokenizer))
            except RowError as error:
                bad.add(row, error.message, help=error.help)
    bad.refuse()
    return items


def fingerprint(prompt: str, answer: str) -> bytes:
    """A short key for one question with its answer."""
    return hashlib.blake2b(f"{len(prompt)}:{prompt}{answer}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _end_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that can end a turn: the special tokens, save those that begin a text."""
    added = [index for index, token in tokenizer.added_tokens_decoder.items() if token.special]
    return frozenset({*tokenizer.all_special_ids, *added} - set(leading_ids(tokenizer)))


def _tokenize(
    dataset: DatasetPlan, flat: Sequence[tuple[SourceRow, Example]], tokenizer: Tokenizer
) -> Iterator[Tokenized]:
    try:
        yield from tokenize_examples([example for _, example in flat], tokenizer)
    except RowError:
        # only rows that came tokenised can fail: find all of them
        bad = BadRows(dataset)
        for row, example in flat:
            bad.read += 1
            try:
                tokenize_examples([example], tokenizer)
            except RowError as error:
                bad.add(row, error.message, help=error.help)
        bad.refuse()


def _take(
    collected: Collected, place: str, example: Example, tokens: Tokenized, limits: Limits, ends: frozenset[int]
) -> None:
    import numpy as np

    counts = collected.counts
    collected.lengths.append(len(tokens.input_ids))
    ids = np.asarray(tokens.input_ids, dtype=np.int32)
    labels = np.asarray(tokens.labels, dtype=np.int32)
    cut = len(ids) > limits.sequence_len
    if cut:
        collected.too_long.append(place)
        if limits.strategy != "truncate":
            counts["dropped_too_long"] += 1
            return
        counts["truncated"] += 1
        ids, labels = ids[: limits.sequence_len], labels[: limits.sequence_len]
    trained = np.flatnonzero(labels != IGNORED)
    if not len(trained):
        counts["nothing_to_train"] += 1
        return
    counts["tokens"] += len(ids)
    counts["trained_tokens"] += len(trained)
    counts["straddling"] += tokens.straddling
    # a line break may follow the mark where the whole text is trained
    counts["without_end"] += not cut and ends.isdisjoint(labels[trained[-END_WINDOW:]].tolist())
    start, end = answer_span(example.segments)
    if start != end:
        prompt = "".join(segment.text for segment in example.segments[:start])
        answer = "".join(segment.text for segment in example.segments[start:end])
        collected.answers.setdefault(fingerprint(prompt, answer), place)
    collected.input_ids.append(ids)
    collected.labels.append(labels)
    collected.places.append(place)


def _refuse_long(collected: Collected, limits: Limits) -> None:
    stats = collected.stats()
    places = ", ".join(collected.too_long[:SHOWN_PLACES])
    more = f" and {len(collected.too_long) - SHOWN_PLACES:,} more" if len(collected.too_long) > SHOWN_PLACES else ""
    raise DataError(
        f"{len(collected.too_long):,} of {len(collected.lengths):,} examples of {stats['path']} are longer than "
        f"sequence_len {limits.sequence_len} (the longest has {stats['longest']:,} tokens): {places}{more}",
        help=f"raise sequence_len ({stats['length_99']} fits 99 %), or set excess_length_strategy to drop or truncate",
    )
