"""Reads, renders and tokenises one data set, and counts what comes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from core.audit.facts import CheckedExample
from core.data.files import SourceRow
from core.data.items import answer_span, item_of
from core.data.render import BadRows, render_rows
from core.data.sources import shown
from core.data.tokenise import IGNORED, Tokenized, end_ids, tokenize_examples
from core.errors import DataError, RowError
from core.types import DatasetPlan, Example, Item

if TYPE_CHECKING:
    from core.types import Tokenizer

BATCH = 1000
SHOWN_PLACES = 10
Made = tuple[int, SourceRow, Example, Tokenized]  # the number of the row first
END_WINDOW = 3  # an end-of-turn token must be among this many last trained tokens


@dataclass(frozen=True)
class Limits:
    """How long an example may be, in tokens, and what happens to a longer one: `drop`, `truncate` or `raise`.

    skipped: the share of rows that may be left out because they cannot be used; None if not one may.
    """

    sequence_len: int
    strategy: str
    skipped: float | None = None


@dataclass
class Collected:
    """The examples of one data set, those that are not trained on included, and the counts."""

    dataset: DatasetPlan
    examples: list[CheckedExample] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    bad_rows: list[str] = field(default_factory=list)

    @property
    def kept(self) -> list[CheckedExample]:
        """The examples that are trained on."""
        return [example for example in self.examples if example.kept]

    def stats(self) -> dict[str, Any]:
        """The counts, JSON-ready. length_99: the sequence_len that would fit 99 % of the examples."""
        ordered = sorted(example.length for example in self.examples)
        tokens, trained = self.counts["tokens"], self.counts["trained_tokens"]
        return {
            "path": shown(self.dataset.path),
            "type": self.dataset.format.name,
            "rows": self.counts["rows"],
            "examples": len(self.kept),
            "tokens": tokens,
            "trained_tokens": trained,
            "trained_share": trained / tokens if tokens else 0.0,
            "dropped_too_long": self.counts["dropped_too_long"],
            "truncated": self.counts["truncated"],
            "nothing_to_train": self.counts["nothing_to_train"],
            "straddling": self.counts["straddling"],
            "without_end": self.counts["without_end"],
            "longest": ordered[-1] if ordered else 0,
            "length_99": length_99(ordered),
            "notes": dict(self.notes),
            "bad_rows": self.counts["bad_rows"],
            "first_bad_rows": list(self.bad_rows),
        }


def length_99(ordered: Sequence[int]) -> int:
    """The length that 99 % of the `ordered` lengths do not exceed; 0 for none."""
    return ordered[-(-len(ordered) * 99 // 100) - 1] if ordered else 0


def collect(dataset: DatasetPlan, tokenizer: Tokenizer, limits: Limits) -> Collected:
    """All examples of `dataset`. Raises `DataError` for rows that cannot be used, or are too long with `raise`."""
    collected = Collected(dataset)
    ends, bad = end_ids(tokenizer), BadRows(dataset, limits.skipped)
    for number, row, example, tokens in _tokenized(dataset, tokenizer, bad):
        collected.notes.update(example.notes)
        _count(collected, checked(dataset, number, row, example, tokens, ends, limits), limits)
    bad.refuse()
    collected.counts["rows"], collected.counts["bad_rows"] = bad.read, bad.count
    collected.bad_rows = bad.lines
    if limits.strategy == "raise":
        _refuse_long(collected, limits)
    return collected


def collect_items(
    dataset: DatasetPlan, tokenizer: Tokenizer, limits: Limits, first_index: int
) -> tuple[list[Item], Collected]:
    """The held-out items of `dataset`, numbered from `first_index`, and the examples they were made of.

    Raises `DataError` for rows that make none. `test_datasets` serve validation and evaluation alike, so rows without
    an answer are left out of the items there.
    """
    items: list[Item] = []
    collected = Collected(dataset)
    serves_validation = dataset.key[:1] == ("test_datasets",)
    ends, bad = end_ids(tokenizer), BadRows(dataset, limits.skipped)
    for number, row, example, tokens in _tokenized(dataset, tokenizer, bad):
        if serves_validation and answer_span(example.segments) == (0, 0):
            continue
        try:
            items.append(item_of(example, row.values, row.place, first_index + len(items), tokenizer))
        except RowError as error:
            bad.add(row, error.message, help=error.help)
        else:
            # what is scored is never cut
            whole = Limits(len(tokens.input_ids), "drop")
            collected.examples.append(checked(dataset, number, row, example, tokens, ends, whole))
    bad.refuse()
    collected.counts["rows"], collected.counts["bad_rows"] = bad.read, bad.count
    collected.bad_rows = bad.lines
    return items, collected


def checked(
    dataset: DatasetPlan,
    number: int,
    row: SourceRow,
    example: Example,
    tokens: Tokenized,
    ends: frozenset[int],
    limits: Limits,
) -> CheckedExample:
    """The example as data checks see it, cut or left out as `limits` say. ends: the ids that can end a turn."""
    import numpy as np

    ids = np.asarray(tokens.input_ids, dtype=np.int32)
    labels = np.asarray(tokens.labels, dtype=np.int32)
    length = len(ids)
    too_long = length > limits.sequence_len
    cut = too_long and limits.strategy == "truncate"
    if cut:
        ids, labels = ids[: limits.sequence_len], labels[: limits.sequence_len]
    trained = np.flatnonzero(labels != IGNORED)
    start, end = answer_span(example.segments)
    # a line break may follow the mark where the whole text is trained
    last = labels[trained[-END_WINDOW:]].tolist()
    return CheckedExample(
        place=row.place,
        row=row.values,
        example=example,
        dataset=dataset,
        prompt="".join(segment.text for segment in example.segments[:start]) if start != end else "",
        answer="".join(segment.text for segment in example.segments[start:end]),
        input_ids=ids,
        labels=labels,
        length=length,
        kept=bool(len(trained)) and (cut or not too_long),
        cut=cut,
        straddling=tokens.straddling,
        ends=cut or not last or not ends.isdisjoint(last),
        number=number,
    )


def _tokenized(dataset: DatasetPlan, tokenizer: Tokenizer, bad: BadRows) -> Iterator[Made]:
    """Every example with its row and its tokens; rows that cannot be used are added to `bad`."""
    rendered = render_rows(dataset, tokenizer, bad)
    while batch := list(islice(rendered, BATCH)):
        flat = [(number, row, example) for number, row, examples in batch for example in examples]
        try:
            tokens = tokenize_examples([example for _, _, example in flat], tokenizer)
        except RowError:
            # only rows that came tokenised can fail: find all of them
            yield from _tokenized_singly(flat, tokenizer, bad)
        else:
            yield from ((*given, made) for given, made in zip(flat, tokens, strict=True))


def _tokenized_singly(
    flat: Sequence[tuple[int, SourceRow, Example]], tokenizer: Tokenizer, bad: BadRows
) -> Iterator[Made]:
    for number, row, example in flat:
        try:
            (tokens,) = tokenize_examples([example], tokenizer)
        except RowError as error:
            bad.add(row, error.message, help=error.help)
        else:
            yield number, row, example, tokens


def _count(collected: Collected, example: CheckedExample, limits: Limits) -> None:
    import numpy as np

    collected.examples.append(example)
    counts = collected.counts
    if example.length > limits.sequence_len:
        counts["truncated" if example.cut else "dropped_too_long"] += 1
    if not example.kept:
        counts["nothing_to_train"] += example.cut or example.length <= limits.sequence_len
        return
    counts["tokens"] += len(example.input_ids)
    counts["trained_tokens"] += int(np.count_nonzero(example.labels != IGNORED))
    counts["straddling"] += example.straddling
    counts["without_end"] += not example.ends


def _refuse_long(collected: Collected, limits: Limits) -> None:
    too_long = [example.place for example in collected.examples if example.length > limits.sequence_len]
    if not too_long:
        return
    stats = collected.stats()
    places = ", ".join(too_long[:SHOWN_PLACES])
    more = f" and {len(too_long) - SHOWN_PLACES:,} more" if len(too_long) > SHOWN_PLACES else ""
    raise DataError(
        f"{len(too_long):,} of {len(collected.examples):,} examples of {stats['path']} are longer than "
        f"sequence_len {limits.sequence_len} (the longest has {stats['longest']:,} tokens): {places}{more}",
        help=f"raise sequence_len ({stats['length_99']} fits 99 %), or set excess_length_strategy to drop or truncate",
    )
