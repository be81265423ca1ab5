"""Training examples made while a run trains, for data that is never held whole: read, mixed, shuffled, tokenised.

Their order is decided by the seed and the data alone: a second walk gives the same examples, which is how a resumed run
finds its place. Each data set is shuffled through a buffer of rows, and begun again in another order when it ends.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from core.console import say
from core.data.collect import Limits, checked
from core.data.files import SourceRow
from core.data.mix import weight_of
from core.data.render import BadRows, render_row
from core.data.rows import array_rows
from core.data.sources import read_rows, shown
from core.data.tokenise import encode_texts, end_ids, label_examples, texts_of
from core.errors import DataError, RowError
from core.results import TrainResult
from core.types import Data, DatasetPlan, Example, Item

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

    from core.audit.facts import CheckedExample
    from core.types import Tokenizer

CHUNK = 256  # rows rendered and tokenised together
Drawn = tuple["_Source", SourceRow]


@dataclass(frozen=True, slots=True)
class StreamedRow:
    """One training example. input_ids, labels: int32 arrays of equal length, -100 where not trained."""

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    place: str


@dataclass
class _Source:
    """One data set, and how far it has been read. rows: of one pass, once one is over."""

    dataset: DatasetPlan
    bad: BadRows
    kept: int = 0
    long: int = 0
    untrained: int = 0
    rows: int | None = None
    idle: int = 0  # rows since the last that could be trained on
    leaked: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class HeldOut:
    """Evaluation items and validation rows, to be known again among the training rows.

    level: `error` or `warn`, as `data_checks` sets it for leakage. places: of each, by a digest.
    """

    level: str
    places: Mapping[bytes, str]

    @classmethod
    def of(cls, level: str, items: Sequence[Item], val: Dataset | None) -> HeldOut:
        """Those of a run."""
        known = {
            _digest(f"{item.prompt}\0{item.references[0]}".encode(errors="surrogatepass")): item.place for item in items
        }
        if val is not None:
            rows = zip(array_rows(val), val["place"], strict=True)
            known |= {_digest(row["input_ids"].tobytes()): place for row, place in rows}
        return cls(level, known)

    def look_at(self, example: CheckedExample, leaked: list[str]) -> None:
        """Add the example's place to `leaked` if it is held out; raise `DataError` where that is an error."""
        found = next(
            (self.places[key] for key in map(_digest, self._contents(example)) if key in self.places),
            None,
        )
        if found is None:
            return
        if self.level == "error":
            raise DataError(
                f"{found} is held out, and {example.place} of the training data is the same",
                help="take it out of one of the two; where it is meant, set data_checks: {leakage: warn}",
            )
        leaked.append(example.place)

    @staticmethod
    def _contents(example: CheckedExample) -> Iterator[bytes]:
        yield example.content.encode(errors="surrogatepass")
        yield example.input_ids.tobytes()


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


@dataclass(frozen=True)
class Stream:
    """What a run reads its training rows from while it trains, and in which order.

    datasets: each is drawn from as often as its weight says. buffer: rows of each that are shuffled among each other; 0
    keeps the order of the files, one data set after the other. held_out: what must not be among the rows.
    """

    datasets: Sequence[DatasetPlan]
    tokenizer: Tokenizer
    limits: Limits
    buffer: int
    seed: int
    held_out: HeldOut | None = None
    _sources: list[_Source] = field(default_factory=list)

    def rows(self) -> Iterator[StreamedRow]:
        """The examples from the first on, without end.

        Raises `DataError` for a row that cannot be used, with `on_bad_row: skip` for more of them than may be left out,
        and for a data set that has nothing to train on.
        """
        self._sources[:] = [_Source(dataset, BadRows(dataset, self.limits.skipped)) for dataset in self.datasets]
        ends = end_ids(self.tokenizer)
        drawn = self._drawn(self._sources)
        while chunk := list(islice(drawn, CHUNK)):
            yield from self._made(chunk, ends)

    def counts(self) -> list[Mapping[str, Any]]:
        """Of each data set: rows read so far (what was read ahead included), of them kept, and why not the others."""
        return [
            {
                "path": shown(source.dataset.path),
                "rows": source.bad.read,
                "rows_of_a_pass": source.rows,
                "examples": source.kept,
                "dropped_too_long": source.long if self.limits.strategy == "drop" else 0,
                "truncated": source.long if self.limits.strategy == "truncate" else 0,
                "nothing_to_train": source.untrained,
                "held_out_too": len(source.leaked),
                "bad_rows": source.bad.count,
                "first_bad_rows": list(source.bad.lines),
            }
            for source in self._sources
        ]

    # -------------------------------------------------------------- the order of rows

    def _drawn(self, sources: Sequence[_Source]) -> Iterator[Drawn]:
        """Rows without end: of data sets drawn by their weights, or of one after the other."""
        if not self.buffer:
            passes = 0
            while True:
                for number, source in enumerate(sources):
                    yield from self._one_pass(number, source, passes)
                passes += 1
        feeds = [self._endless(number, source) for number, source in enumerate(sources)]
        weights = [weight_of(source.dataset.options) for source in sources]
        rng = random.Random(f"{self.seed}/streams")
        while True:
            (feed,) = rng.choices(feeds, weights) if len(feeds) > 1 else feeds
            yield next(feed)

    def _endless(self, number: int, source: _Source) -> Iterator[Drawn]:
        passes = 0
        while True:
            yield from self._one_pass(number, source, passes)
            passes += 1

    def _one_pass(self, number: int, source: _Source, passes: int) -> Iterator[Drawn]:
        """Every row of a data set once."""
        rng = random.Random(f"{self.seed}/{number}/{passes}")
        count = 0
        for count, row in enumerate(through_buffer(read_rows(source.dataset), self.buffer, rng), start=1):  # noqa: B007
            yield source, row
        source.rows = count

    # -------------------------------------------------------------- from rows to examples

    def _made(self, chunk: Sequence[Drawn], ends: frozenset[int]) -> list[StreamedRow]:
        """The examples of some rows that can be trained on. Raises `DataError` for what may not be among them."""
        rows: list[StreamedRow] = []
        flat: list[tuple[_Source, SourceRow, Example]] = []
        for source, row in chunk:
            source.bad.read += 1
            source.idle += 1
            made = render_row(source.dataset, row, self.tokenizer, source.bad)
            flat += [(source, row, example) for example in made]
        for source, row, example, tokens in self._tokenized(flat):
            one = checked(source.dataset, 0, row, example, tokens, ends, self.limits)
            too_long = one.length > self.limits.sequence_len
            source.long += too_long
            if too_long and self.limits.strategy == "raise":
                raise DataError(
                    f"{row.place} has {one.length:,} tokens, more than sequence_len {self.limits.sequence_len}",
                    help="raise sequence_len, or set excess_length_strategy to drop or truncate",
                )
            if not one.kept:
                source.untrained += one.cut or not too_long
                continue
            if self.held_out is not None:
                self.held_out.look_at(one, source.leaked)
            source.kept += 1
            source.idle = 0
            rows.append(StreamedRow(one.input_ids, one.labels, row.place))
        for source in self._sources:
            self._refuse(source)
        return rows

    def _tokenized(
        self, flat: Sequence[tuple[_Source, SourceRow, Example]]
    ) -> Iterator[tuple[_Source, SourceRow, Example, Any]]:
        examples = [example for _, _, example in flat]
        try:
            made = label_examples(examples, encode_texts(texts_of(examples), self.tokenizer), self.tokenizer)
        except RowError:
            # only rows that came tokenised can fail: find them
            for source, row, example in flat:
                try:
                    (tokens,) = label_examples(
                        [example], encode_texts(texts_of([example]), self.tokenizer), self.tokenizer
                    )
                except RowError as error:
                    source.bad.add(row, error.message, help=error.help)
                else:
                    yield source, row, example, tokens
            return
        for given, tokens in zip(flat, made, strict=True):
            yield (*given, tokens)

    def _refuse(self, source: _Source) -> None:
        """Raise for bad rows that may not be, and for a data set that brings nothing."""
        if self.limits.skipped is None or source.bad.read >= (self.limits.rows or 1):
            source.bad.refuse()
        if source.rows is not None and source.idle >= 2 * source.rows:
            raise DataError(
                f"{shown(source.dataset.path)} has nothing to train on: of its last {source.idle:,} rows, more than a "
                f"whole pass, none was kept ({source.long:,} examples too long, {source.untrained:,} without a trained "
                f"token, {source.bad.count:,} rows that cannot be used)",
                help="take the data set out, or raise sequence_len",
            )


def streamed_lines(counts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was read of each data set, and what of it was left out. counts: of `Stream.counts`."""
    lines = []
    for entry in counts:
        passes = f", {entry['rows'] / entry['rows_of_a_pass']:.2f} times all" if entry["rows_of_a_pass"] else ""
        lines.append(f"read {entry['rows']:,} rows of {entry['path']} ({entry['examples']:,} examples{passes})")
        for key, what in (
            ("dropped_too_long", "examples longer than sequence_len were dropped"),
            ("truncated", "examples were cut to sequence_len"),
            ("nothing_to_train", "examples had no trained token"),
            ("held_out_too", "examples are held out too, so their score means little"),
        ):
            if entry[key]:
                lines.append(f"warning: {entry['path']}: {entry[key]:,} {what}")
        if entry["bad_rows"]:
            lines.append(f"warning: {entry['path']}: skipped {entry['bad_rows']:,} rows that cannot be used")
            lines += [f"  {line}" for line in entry["first_bad_rows"]]
    return lines


def with_streamed(data: Data, trained: TrainResult) -> TrainResult:
    """`trained` with what was read while training, which is said; as it is where nothing was."""
    if data.stream is None:
        return trained
    counts = data.stream.counts()
    for line in streamed_lines(counts):
        say(line)
    return replace(trained, streamed=counts)


def through_buffer(rows: Iterator[SourceRow], size: int, rng: random.Random) -> Iterator[SourceRow]:
    """All `rows` once, each drawn from the `size` that are at hand; in their own order where `size` is 0."""
    buffer: list[SourceRow] = []
    if not size:
        yield from rows
        return
    for row in rows:
        if len(buffer) < size:
            buffer.append(row)
            continue
        at = rng.randrange(size)
        drawn, buffer[at] = buffer[at], row
        yield drawn
    rng.shuffle(buffer)
    yield from buffer
