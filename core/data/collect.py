"""Reads, renders and tokenises one data set, and counts what comes out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.audit.facts import CheckedExample
from core.data.collected import Collected
from core.data.files import SourceRow
from core.data.items import answer_span, item_of, prompt_end
from core.data.render import BadRows, render_rows
from core.data.store import CUT, ENDS, KEPT, Store
from core.data.tokenise import IGNORED, Arrays, Tokenized, encode_texts, end_ids, label_examples, texts_of
from core.errors import DataError, RowError
from core.types import DatasetPlan, Example, Item

if TYPE_CHECKING:
    from core.types import Tokenizer

BATCH = 1000
LARGEST_CHUNK = 4_000_000  # characters
CHUNKS_AHEAD = 2  # tokenised while others are read and written
SHOWN_PLACES = 10
Rendered = tuple[int, SourceRow, Sequence[Example]]  # the number of the row first
Flat = list[tuple[int, SourceRow, Example]]
Made = tuple[int, SourceRow, Example, Arrays]
See = Callable[[Sequence[CheckedExample]], None]
END_WINDOW = 3  # an end-of-turn token must be among this many last trained tokens


@dataclass(frozen=True)
class Limits:
    """How long an example may be, in tokens, and what happens to a longer one: `drop`, `truncate` or `raise`.

    skipped: the share of rows that may be left out because they cannot be used; None if not one may. rows: how many
    rows of a data set are looked at; None for all.
    """

    sequence_len: int
    strategy: str
    skipped: float | None = None
    rows: int | None = None


def collect(dataset: DatasetPlan, tokenizer: Tokenizer, limits: Limits, store: Store, see: See) -> Collected:
    """All examples of `dataset`, written to `store`; `see` gets them chunk by chunk.

    Raises `DataError` for rows that cannot be used, or are too long with `raise`.
    """
    collected = Collected(dataset, store)
    ends, bad = end_ids(tokenizer), BadRows(dataset, limits.skipped)
    too_long: list[str] = []
    for made in _tokenized(dataset, tokenizer, bad, limits.rows):
        examples = [checked(dataset, *one, ends, limits) for one in made]
        for example in examples:
            collected.notes.update(example.example.notes)
            collected.counts["straddling"] += example.straddling if example.kept else 0
            if example.length > limits.sequence_len and len(too_long) < SHOWN_PLACES:
                too_long.append(example.place)
        store.add(examples)
        see(examples)
    _finish(collected, bad)
    _count(collected, limits)
    if limits.strategy == "raise" and too_long:
        _refuse_long(collected, limits, too_long)
    return collected


def collect_items(dataset: DatasetPlan, tokenizer: Tokenizer, limits: Limits, store: Store, see: See) -> Collected:
    """The examples that the held-out items of `dataset` are made of (see `read_items`), written to `store`.

    Raises `DataError` for rows that make none.
    """
    collected = Collected(dataset, store)
    ends, bad = end_ids(tokenizer), BadRows(dataset, limits.skipped)
    for made in _tokenized(dataset, tokenizer, bad):
        examples = []
        for number, row, example, tokens in made:
            try:
                item = _item(dataset, row, example, 0, tokenizer)
            except RowError as error:
                bad.add(row, error.message, help=error.help)
                continue
            if item is not None:
                # what is scored is never cut
                whole = Limits(len(tokens.input_ids), "drop")
                examples.append(checked(dataset, number, row, example, tokens, ends, whole))
        store.add(examples)
        see(examples)
    _finish(collected, bad)
    return collected


def read_items(
    dataset: DatasetPlan, tokenizer: Tokenizer, limits: Limits, *, first_index: int = 0, most: int | None = None
) -> list[Item]:
    """The held-out items of `dataset`, numbered from `first_index`, at most `most`. Nothing is tokenised for them.

    Raises `DataError` for rows that make none, if all were read.
    """
    items: list[Item] = []
    bad = BadRows(dataset, limits.skipped)
    for _, row, examples in render_rows(dataset, tokenizer, bad):
        for example in examples:
            try:
                item = _item(dataset, row, example, first_index + len(items), tokenizer)
            except RowError as error:
                bad.add(row, error.message, help=error.help)
                continue
            if item is not None:
                items.append(item)
        if most is not None and len(items) >= most:
            return items[:most]
    bad.refuse()
    return items


def _item(dataset: DatasetPlan, row: SourceRow, example: Example, index: int, tokenizer: Tokenizer) -> Item | None:
    """The item that `example` makes. `test_datasets` serve validation and evaluation alike, so rows without an answer
    make none there."""
    if dataset.key[:1] == ("test_datasets",) and answer_span(example.segments) == (0, 0):
        return None
    return item_of(example, row.values, row.place, index, tokenizer)


def _finish(collected: Collected, bad: BadRows) -> None:
    collected.store.close()
    bad.refuse()
    collected.counts["rows"], collected.counts["bad_rows"] = bad.read, bad.count
    collected.bad_rows = bad.lines


def checked(
    dataset: DatasetPlan,
    number: int,
    row: SourceRow,
    example: Example,
    tokens: Tokenized | Arrays,
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
        prompt="".join(segment.text for segment in example.segments[: prompt_end(example.segments, start)])
        if start != end
        else "",
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


def _tokenized(
    dataset: DatasetPlan, tokenizer: Tokenizer, bad: BadRows, most: int | None = None
) -> Iterator[list[Made]]:
    """Every example (of the first `most` rows) with its row and its tokens, in chunks; rows that cannot be used are
    added to `bad`."""

    def encoded(flat: Flat) -> list[Any]:
        return encode_texts(texts_of([example for _, _, example in flat]), tokenizer)

    chunks = _chunks(render_rows(dataset, tokenizer, bad, most))
    flat_chunks = ([(number, row, example) for number, row, made in chunk for example in made] for chunk in chunks)
    for flat, encodings in _ahead(flat_chunks, encoded):
        try:
            tokens = label_examples([example for _, _, example in flat], encodings, tokenizer)
        except RowError:
            # only rows that came tokenised can fail: find all of them
            yield list(_tokenized_singly(flat, tokenizer, bad))
        else:
            yield [(*given, made) for given, made in zip(flat, tokens, strict=True)]


def _ahead(chunks: Iterator[Flat], work: Callable[[Flat], list[Any]]) -> Iterator[tuple[Flat, list[Any]]]:
    """Each chunk with what `work` makes of it, in a thread beside this one: the tokenizer leaves Python's lock, so that
    the rows before and after are read, rendered and written meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[tuple[Flat, Future[list[Any]]]] = deque()
        for chunk in chunks:
            waiting.append((chunk, pool.submit(work, chunk)))
            if len(waiting) > CHUNKS_AHEAD:
                before, made = waiting.popleft()
                yield before, made.result()
        for before, made in waiting:
            yield before, made.result()


def _chunks(rendered: Iterator[Rendered]) -> Iterator[list[Rendered]]:
    """Some rows at a time: fewer where they are long, so that a chunk stays small in memory."""
    chunk: list[Rendered] = []
    size = 0
    for made in rendered:
        chunk.append(made)
        for example in made[2]:
            size += sum([len(segment.text) for segment in example.segments]) + len(example.input_ids or ())
        if len(chunk) == BATCH or size > LARGEST_CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _tokenized_singly(
    flat: Sequence[tuple[int, SourceRow, Example]], tokenizer: Tokenizer, bad: BadRows
) -> Iterator[Made]:
    for number, row, example in flat:
        try:
            (tokens,) = label_examples([example], encode_texts(texts_of([example]), tokenizer), tokenizer)
        except RowError as error:
            bad.add(row, error.message, help=error.help)
        else:
            yield number, row, example, tokens


def _count(collected: Collected, limits: Limits) -> None:
    import numpy as np

    store = collected.store
    flags = np.frombuffer(store.flags, dtype=np.uint8)
    lengths, tokens, trained = (
        np.frombuffer(column, dtype=np.int32) for column in (store.lengths, store.tokens, store.trained)
    )
    kept, cut, ends = (flags & flag != 0 for flag in (KEPT, CUT, ENDS))
    long = lengths > limits.sequence_len
    counted = {
        "truncated": long & cut,
        "dropped_too_long": long & ~cut,
        "nothing_to_train": ~kept & (cut | ~long),
        "kept": kept,
        "without_end": kept & ~ends,
    }
    collected.counts.update({name: int(np.count_nonzero(which)) for name, which in counted.items()})
    collected.counts["tokens"] = int(tokens[kept].sum(dtype=np.int64))
    collected.counts["trained_tokens"] = int(trained[kept].sum(dtype=np.int64))


def _refuse_long(collected: Collected, limits: Limits, places: Sequence[str]) -> None:
    import numpy as np

    stats = collected.stats()
    count = int((np.frombuffer(collected.store.lengths, dtype=np.int32) > limits.sequence_len).sum())
    more = f" and {count - SHOWN_PLACES:,} more" if count > SHOWN_PLACES else ""
    most = f"{stats['length_99']:,} fits 99 %" if stats["length_99"] > limits.sequence_len else "it fits 99 %"
    raise DataError(
        f"{count:,} of {len(collected.store):,} examples of {stats['path']} are longer than "
        f"sequence_len {limits.sequence_len} (the longest has {stats['longest']:,} tokens): {', '.join(places)}{more}",
        help=f"raise sequence_len ({most}), or set excess_length_strategy to drop or truncate",
    )
