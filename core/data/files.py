"""Reads one file of rows, each with its place: JSON, JSON lines, CSV, TSV, plain text, Parquet, Arrow.

A row that cannot be read is yielded with its problem instead of its values, so that all of them can be counted.
A file that cannot be read at all raises `DataError`. No file is held in memory whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from core.data.json_rows import read_json, read_json_lines
from core.data.opened import SourceFile, compression_of, display, local_file, opened, refuse_other_kind
from core.data.text_rows import SourceRow, decode, read_csv, read_text, read_tsv
from core.errors import DataError

__all__ = ["READERS", "SUFFIXES", "SourceRow", "decode", "display", "kind_of", "read_file", "read_source", "suffix_of"]

ROWS = 1024  # of a table that are in memory at once


def read_file(path: Path, kind: str) -> Iterator[SourceRow]:
    """The rows of `path` read as `kind` (a key of READERS). Raises `DataError` if the file itself cannot be read."""
    return read_source(local_file(path), kind)


def read_source(file: SourceFile, kind: str) -> Iterator[SourceRow]:
    """The rows of `file` read as `kind` (a key of READERS). Raises `DataError` if the file itself cannot be read."""
    if kind not in BINARY:
        refuse_other_kind(file, NAMES[kind])
    elif packed := compression_of(file.name):
        raise DataError(
            f"{file.name}: {NAMES[kind]} is compressed inside, and is not read out of a {packed} file",
            help="decompress it first",
        )
    yield from READERS[kind](file)


def suffix_of(name: str) -> str:
    """The ending of a file's name that says its kind, without that of a compression: `.jsonl` for `a.jsonl.gz`."""
    return PurePosixPath(name.lower().removesuffix(compression_of(name))).suffix


def kind_of(name: str, chosen: str | None) -> str:
    """The kind of a file, as `ds_type` or else its ending says. Raises `DataError` for none that can be read."""
    kind = chosen or SUFFIXES.get(suffix_of(name))
    if kind not in READERS:
        said = f"ds_type {kind!r}" if kind else f"the ending {suffix_of(name)!r}"
        raise DataError(
            f"{name}: {said} is not a kind of file that can be read"
            if kind or suffix_of(name)
            else f"{name}: its name has no ending that tells the kind of file",
            help=f"set ds_type to one of {', '.join(READERS)}",
        )
    return kind


def _read_parquet(file: SourceFile) -> Iterator[SourceRow]:
    import pyarrow as pa
    from pyarrow import parquet

    with opened(file, seekable=True) as source:
        try:
            with parquet.ParquetFile(source) as table:
                yield from _numbered(table.iter_batches(batch_size=ROWS), file.name)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(file.name, "Parquet", error) from error


def _read_arrow(file: SourceFile) -> Iterator[SourceRow]:
    import pyarrow as pa

    with opened(file, seekable=True) as source:
        try:
            try:
                batches: Iterator[Any] = iter(pa.ipc.open_stream(source))
            except pa.ArrowInvalid:
                source.seek(0)
                table = pa.ipc.open_file(source)
                batches = (table.get_batch(index) for index in range(table.num_record_batches))
            yield from _numbered(batches, file.name)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(file.name, "Arrow", error) from error


def _numbered(batches: Iterator[Any], name: str) -> Iterator[SourceRow]:
    number = 0
    for batch in batches:
        _refuse_twins(batch.schema.names, name)
        for start in range(0, batch.num_rows, ROWS):
            part = batch.slice(start, ROWS)
            try:
                rows = part.to_pylist()
            except Exception:
                # text that is not UTF-8, a time no calendar has, an unknown zone: each has an error of its own
                rows = None
            for index in range(part.num_rows):
                number += 1
                place = f"{name} row {number}"
                yield SourceRow(rows[index], place) if rows is not None else _value_by_value(part, index, place)


def _refuse_twins(names: Sequence[str], file: str) -> None:
    twice = next((column for column, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{file}: column {twice!r} occurs twice", help="give every column a name of its own")


def _value_by_value(batch: Any, index: int, place: str) -> SourceRow:
    """A row of a table of which some cannot be read; with its problem if it is one of them."""
    values: dict[str, Any] = {}
    for column in batch.schema.names:
        try:
            values[column] = batch.column(column)[index].as_py()
        except Exception as error:
            kind = batch.schema.field(column).type
            reason = " ".join(str(error).split()) or type(error).__name__
            problem = f"field {column!r} ({kind}) cannot be read: {reason}"
            return SourceRow({}, place, problem=problem, help="correct this value, or leave the column out of the file")
    return SourceRow(values, place)


def _unreadable(name: str, kind: str, error: Exception) -> DataError:
    return DataError(
        f"{name} cannot be read as {kind}: {' '.join(str(error).split())}",
        help="check that the file is complete, or name its true kind with ds_type",
    )


READERS: dict[str, Callable[[SourceFile], Iterator[SourceRow]]] = {
    "json": read_json,
    "jsonl": read_json_lines,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
    "text": read_text,
}
NAMES = {
    "json": "JSON",
    "jsonl": "JSON lines",
    "csv": "CSV",
    "tsv": "TSV",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "text": "plain text",
}
BINARY = frozenset({"parquet", "arrow"})
SUFFIXES = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
}
