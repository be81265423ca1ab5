"""Examples on disk while data is prepared: written in chunks, read back one chunk at a time.

Two Arrow files per data set. The first holds what is trained on (`input_ids`, `labels`, `place`) and is kept in the
cache; the second the rest of a `CheckedExample`, for data checks and previews, and goes away with them. None is mapped
into memory here, so that reading through a file that is larger than memory leaves nothing behind.
"""

from __future__ import annotations

import pickle
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from core.audit.facts import CheckedExample
from core.data.items import answer_span
from core.data.tokenise import IGNORED
from core.types import DatasetPlan, Example, Segment

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

KEPT, CUT, ENDS, PRETOKENISED = 1, 2, 4, 8
TRAINED, ANSWER = 1, 2
OPEN_CHUNKS = 8  # decoded chunks that random access keeps at hand


class Store:
    """The files of one data set and, in memory, a few bytes per example: `lengths` (before any cut), `tokens` (after
    it), `trained` (tokens), `flags`, and `digests`: equal for examples of equal ids."""

    def __init__(self, folder: Path, name: str, dataset: DatasetPlan) -> None:
        self.dataset = dataset
        self.files = (folder / f"{name}.arrow", folder / f"{name}.texts.arrow")
        self.lengths, self.tokens, self.trained = array("i"), array("i"), array("i")
        self.flags, self.digests = array("B"), array("q")
        self.starts = array("q", [0])  # number of the first example of each chunk, and one past the last
        self._offsets: tuple[list[int], list[int]] = ([], [])  # where each chunk begins in each file
        self._sinks: list[Any] = []
        self._writers: list[Any] = []

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
        flags = [_flags(example) for example in examples]
        self.lengths.extend(example.length for example in examples)
        self.tokens.extend(len(example.input_ids) for example in examples)
        self.trained.extend(int(np.count_nonzero(example.labels != IGNORED)) for example in examples)
        self.flags.extend(flags)
        self.digests.extend(hash(example.input_ids.tobytes()) for example in examples)
        self.starts.append(self.starts[-1] + len(examples))
        batches = (_token_batch(examples), _text_batch(examples, flags))
        for offsets, sink, writer, batch in zip(self._offsets, self._sinks, self._writers, batches, strict=True):
            offsets.append(sink.tell())
            writer.write_batch(batch)

    def close(self) -> None:
        """Finish the files; a store without examples has files without rows."""
        self._open()
        for sink, writer in zip(self._sinks, self._writers, strict=True):
            writer.close()
            sink.close()

    def kept(self) -> Ints:
        """The numbers of the examples that are trained on."""
        import numpy as np

        return np.flatnonzero(np.frombuffer(self.flags, dtype=np.uint8) & KEPT)

    def read(self, chunk: int) -> list[CheckedExample]:
        """The examples of a chunk, read from disk. The store has to be closed."""
        return _examples(self._batch(0, chunk), self._batch(1, chunk), self.dataset)

    def places(self, chunk: int) -> list[str]:
        """Where the examples of a chunk stand."""
        found: list[str] = self._batch(0, chunk).column("place").to_pylist()
        return found

    def _batch(self, file: int, chunk: int) -> pa.RecordBatch:
        import pyarrow as pa

        with pa.OSFile(str(self.files[file])) as source:
            source.seek(self._offsets[file][chunk])
            message = pa.ipc.read_message(source)
            if message.type == "schema":
                message = pa.ipc.read_message(source)  # the schema goes in front of the first chunk
            return pa.ipc.read_record_batch(message, _schemas()[file])

    def _open(self) -> None:
        import pyarrow as pa

        if not self._writers:
            self._sinks = [pa.OSFile(str(file), "wb") for file in self.files]
            self._writers = [pa.ipc.new_stream(*pair) for pair in zip(self._sinks, _schemas(), strict=True)]


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


@lru_cache(maxsize=1)
def _schemas() -> tuple[pa.Schema, pa.Schema]:
    import pyarrow as pa

    ids = pa.list_(pa.int32())
    tokens = [("input_ids", ids), ("labels", ids), ("place", pa.string())]
    texts = [
        ("row", pa.large_binary()),
        ("text", pa.large_string()),
        ("ends", ids),
        ("marks", pa.list_(pa.uint8())),
        ("notes", pa.list_(pa.string())),
        ("number", pa.int64()),
        ("length", pa.int32()),
        ("straddling", pa.int32()),
        ("flags", pa.uint8()),
    ]
    return pa.schema(tokens), pa.schema(texts)


def _token_batch(examples: Sequence[CheckedExample]) -> pa.RecordBatch:
    import pyarrow as pa

    columns = [
        _lists([example.input_ids for example in examples]),
        _lists([example.labels for example in examples]),
        pa.array([example.place for example in examples], type=pa.string()),
    ]
    return pa.record_batch(columns, schema=_schemas()[0])


def _lists(rows: Sequence[NDArray[np.int32]]) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    offsets = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(rows), type=pa.int32()))


def _text_batch(examples: Sequence[CheckedExample], flags: Sequence[int]) -> pa.RecordBatch:
    import pyarrow as pa

    segments = [example.example.segments for example in examples]
    columns = [
        [pickle.dumps(dict(example.row), pickle.HIGHEST_PROTOCOL) for example in examples],
        ["".join([segment.text for segment in given]) for given in segments],
        [list(accumulate([len(segment.text) for segment in given])) for given in segments],
        [[TRAINED * segment.trained + ANSWER * segment.answer for segment in given] for given in segments],
        [list(example.example.notes) for example in examples],
        [example.number for example in examples],
        [example.length for example in examples],
        [example.straddling for example in examples],
        flags,
    ]
    schema = _schemas()[1]
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _examples(tokens: pa.RecordBatch, texts: pa.RecordBatch, dataset: DatasetPlan) -> list[CheckedExample]:
    ids, labels = (_rows(tokens.column(name)) for name in ("input_ids", "labels"))
    places = tokens.column("place").to_pylist()
    others = zip(*(texts.column(field.name).to_pylist() for field in _schemas()[1]), strict=True)
    return [
        _example(dataset, *given, *values)
        for given, values in zip(zip(places, ids, labels, strict=True), others, strict=True)
    ]


def _rows(column: pa.ListArray) -> list[NDArray[np.int32]]:
    values = column.values.to_numpy(zero_copy_only=True)
    offsets = column.offsets.to_pylist()
    return [values[start:end] for start, end in pairwise(offsets)]


def _example(
    dataset: DatasetPlan,
    place: str,
    ids: NDArray[np.int32],
    labels: NDArray[np.int32],
    row: bytes,
    text: str,
    ends: list[int],
    marks: list[int],
    notes: list[str],
    number: int,
    length: int,
    straddling: int,
    flags: int,
) -> CheckedExample:
    segments = [
        Segment(text[start:end], bool(mark & TRAINED), bool(mark & ANSWER))
        for start, end, mark in zip([0, *ends], ends, marks, strict=False)
    ]
    first, last = answer_span(segments)
    given = {"input_ids": ids.tolist(), "labels": labels.tolist()} if flags & PRETOKENISED else {}
    return CheckedExample(
        place=place,
        row=pickle.loads(row),
        example=Example(segments if not given else (), notes=tuple(notes), **given),
        dataset=dataset,
        prompt=text[: ends[first - 1]] if first and first != last else "",
        answer=text[ends[first - 1] if first else 0 : ends[last - 1]] if first != last else "",
        input_ids=ids,
        labels=labels,
        length=length,
        kept=bool(flags & KEPT),
        cut=bool(flags & CUT),
        straddling=straddling,
        ends=bool(flags & ENDS),
        number=number,
    )
