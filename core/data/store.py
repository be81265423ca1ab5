"""Examples on disk while data is prepared: written in chunks, read back one chunk at a time.

Two files per data set. The first, of Arrow, holds what is trained on (`input_ids`, `labels`, `place`) and is kept in
the cache; the second, of pickles, the rest of a `CheckedExample`, for data checks and previews, and goes away with
them. None is mapped into memory here, so that reading through a file that is larger than memory leaves nothing behind.
"""

from __future__ import annotations

import pickle
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from core.audit.facts import CheckedExample
from core.data.items import answer_span, prompt_end
from core.data.tokenise import IGNORED
from core.types import DatasetPlan, Example, Segment

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

# row, texts of its segments, a mark of each, notes, number, length, straddling, flags
Others = tuple[dict[str, Any], list[str], bytes, tuple[str, ...], int, int, int, int]

KEPT, CUT, ENDS, PRETOKENISED = 1, 2, 4, 8
TRAINED, ANSWER, THOUGHT = 1, 2, 4
OPEN_CHUNKS = 8  # decoded chunks that random access keeps at hand


class Store:
    """The files of one data set and, in memory, a few bytes per example: `lengths` (before any cut), `tokens` (after
    it), `trained` (tokens), `flags`, and `digests`: equal for examples of equal ids."""

    def __init__(self, folder: Path, name: str, dataset: DatasetPlan) -> None:
        self.dataset = dataset
        self.files = (folder / f"{name}.arrow", folder / f"{name}.texts")
        self.lengths, self.tokens, self.trained = array("i"), array("i"), array("i")
        self.flags, self.digests = array("B"), array("q")
        self.starts = array("q", [0])  # number of the first example of each chunk, and one past the last
        self._offsets: tuple[list[int], list[int]] = ([], [])  # where each chunk begins in each file
        self._sinks: list[Any] = []
        self._writer: Any = None

    def __len__(self) -> int:
        return self.starts[-1]

    @property
    def chunks(self) -> int:
        """How many chunks have been added."""
        return len(self.starts) - 1

    def add(self, examples: Sequence[CheckedExample]) -> None:
        """Append one chunk."""
        import numpy as np

        if not examples:
            return
        self._open()
        labels = np.concatenate([example.labels for example in examples])
        ends = np.cumsum([len(example.labels) for example in examples])
        trained = np.concatenate([[0], np.cumsum(labels != IGNORED)])[np.concatenate([[0], ends])]
        self.lengths.extend([example.length for example in examples])
        self.tokens.frombytes(np.diff(ends, prepend=0).astype(np.int32).tobytes())
        self.trained.frombytes(np.diff(trained).astype(np.int32).tobytes())
        self.flags.extend([_flags(example) for example in examples])
        self.digests.extend([hash(example.input_ids.tobytes()) for example in examples])
        self.starts.append(self.starts[-1] + len(examples))
        for offsets, sink in zip(self._offsets, self._sinks, strict=True):
            offsets.append(sink.tell())
        self._writer.write_batch(_token_batch(examples, labels, ends))
        pickle.dump(list(map(_others, examples)), self._sinks[1], pickle.HIGHEST_PROTOCOL)

    def close(self) -> None:
        """Finish the files; a store without examples has files without rows."""
        self._open()
        self._writer.close()
        for sink in self._sinks:
            sink.close()

    def read(self, chunk: int) -> list[CheckedExample]:
        """The examples of a chunk, read from disk. The store has to be closed."""
        with self.files[1].open("rb") as source:
            source.seek(self._offsets[1][chunk])
            others = pickle.load(source)
        tokens = self._batch(chunk)
        ids, labels = (_rows(tokens.column(name)) for name in ("input_ids", "labels"))
        given = zip(tokens.column("place").to_pylist(), ids, labels, others, strict=True)
        return [_example(self.dataset, *one) for one in given]

    def places(self, chunk: int) -> list[str]:
        """Where the examples of a chunk stand."""
        found: list[str] = self._batch(chunk).column("place").to_pylist()
        return found

    def _batch(self, chunk: int) -> pa.RecordBatch:
        import pyarrow as pa

        with pa.OSFile(str(self.files[0])) as source:
            source.seek(self._offsets[0][chunk])
            message = pa.ipc.read_message(source)
            if message.type == "schema":
                message = pa.ipc.read_message(source)  # the schema goes in front of the first chunk
            return pa.ipc.read_record_batch(message, _schema())

    def _open(self) -> None:
        import pyarrow as pa

        if not self._sinks:
            self._sinks = [pa.OSFile(str(self.files[0]), "wb"), self.files[1].open("wb")]
            self._writer = pa.ipc.new_stream(self._sinks[0], _schema())


class Stored(Sequence[CheckedExample]):
    """The examples of several stores one after the other, read back when asked for."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._chunks = [(store, number) for store in stores for number in range(store.chunks)]
        self._starts = [0]
        for store, number in self._chunks:
            self._starts.append(self._starts[-1] + store.starts[number + 1] - store.starts[number])
        self._read = lru_cache(OPEN_CHUNKS)(self._read_chunk)
        self._places = lru_cache(OPEN_CHUNKS)(self._places_of)

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[CheckedExample]:
        for chunk in self.in_chunks():
            yield from chunk

    def in_chunks(self) -> Iterator[list[CheckedExample]]:
        """All examples, as many at a time as were written together."""
        for store, number in self._chunks:
            yield store.read(number)

    @overload
    def __getitem__(self, index: int) -> CheckedExample: ...
    @overload
    def __getitem__(self, index: slice) -> list[CheckedExample]: ...
    def __getitem__(self, index: int | slice) -> CheckedExample | list[CheckedExample]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(index)
        chunk = bisect_right(self._starts, number) - 1
        return self._read(chunk)[number - self._starts[chunk]]

    def place(self, number: int) -> str:
        """Where an example stands."""
        chunk = bisect_right(self._starts, number) - 1
        return self._places(chunk)[number - self._starts[chunk]]

    def _places_of(self, chunk: int) -> list[str]:
        store, number = self._chunks[chunk]
        return store.places(number)

    def _read_chunk(self, chunk: int) -> list[CheckedExample]:
        store, number = self._chunks[chunk]
        return store.read(number)


def _flags(example: CheckedExample) -> int:
    return (
        KEPT * example.kept
        + CUT * example.cut
        + ENDS * example.ends
        + PRETOKENISED * (example.example.input_ids is not None)
    )


def _others(example: CheckedExample) -> Others:
    """What is kept of an example beside its tokens and its place."""
    segments = example.example.segments
    return (
        dict(example.row),
        [segment.text for segment in segments],
        bytes([TRAINED * one.trained + ANSWER * one.answer + THOUGHT * one.thought for one in segments]),
        tuple(example.example.notes),
        example.number,
        example.length,
        example.straddling,
        _flags(example),
    )


@lru_cache(maxsize=1)
def _schema() -> pa.Schema:
    import pyarrow as pa

    ids = pa.list_(pa.int32())
    return pa.schema([("input_ids", ids), ("labels", ids), ("place", pa.string())])


def _token_batch(examples: Sequence[CheckedExample], labels: NDArray[np.int32], ends: Ints) -> pa.RecordBatch:
    """labels: of all examples, one after the other; ends: where those of each end."""
    import numpy as np
    import pyarrow as pa

    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    ids = np.concatenate([example.input_ids for example in examples])
    columns = [
        *(pa.ListArray.from_arrays(offsets, pa.array(flat, type=pa.int32())) for flat in (ids, labels)),
        pa.array([example.place for example in examples], type=pa.string()),
    ]
    return pa.record_batch(columns, schema=_schema())


def _rows(column: pa.ListArray) -> list[NDArray[np.int32]]:
    values = column.values.to_numpy(zero_copy_only=True)
    offsets = column.offsets.to_pylist()
    return [values[start:end] for start, end in pairwise(offsets)]


def _example(
    dataset: DatasetPlan, place: str, ids: NDArray[np.int32], labels: NDArray[np.int32], others: Others
) -> CheckedExample:
    row, texts, marks, notes, number, length, straddling, flags = others
    segments = [
        Segment(text, bool(mark & TRAINED), bool(mark & ANSWER), bool(mark & THOUGHT))
        for text, mark in zip(texts, marks, strict=True)
    ]
    first, last = answer_span(segments)
    given = {"input_ids": ids.tolist(), "labels": labels.tolist()} if flags & PRETOKENISED else {}
    return CheckedExample(
        place=place,
        row=row,
        example=Example(segments if not given else (), notes=notes, **given),
        dataset=dataset,
        prompt="".join(texts[: prompt_end(segments, first)]) if first != last else "",
        answer="".join(texts[first:last]),
        input_ids=ids,
        labels=labels,
        length=length,
        kept=bool(flags & KEPT),
        cut=bool(flags & CUT),
        straddling=straddling,
        ends=bool(flags & ENDS),
        number=number,
    )
