"""Reads one file of rows, each with its place: JSON, JSON lines, CSV, TSV, Parquet, Arrow.

A row that cannot be read is yielded with its problem instead of its values, so that all of them can be counted.
A file that cannot be read at all raises `DataError`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import DataError

LARGEST_FIELD = 2**31 - 1
SPACE = re.compile(r"[ \t\n\r]*")
HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")  # an escape that stands for a character only beside its other half


@dataclass(frozen=True)
class SourceRow:
    """One row as it stands in its source. place: `file:line`, or `file row N` (from 1) where a file has no lines.

    problem: why the row cannot be used, or None; `values` is empty then and `text` is what stands there.
    """

    values: dict[str, Any]
    place: str
    problem: str | None = None
    text: str = field(default="", compare=False)


def read_file(path: Path, kind: str) -> Iterator[SourceRow]:
    """The rows of `path` read as `kind` (a key of READERS). Raises `DataError` if the file itself cannot be read."""
    try:
        yield from READERS[kind](path, display(path))
    except PermissionError as error:
        raise DataError(f"no permission to read {display(path)}", help="check the file's owner and mode") from error


def display(path: Path) -> str:
    """`path` as messages show it: relative where it lies below the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def decode(raw: bytes, name: str, *, first_line: int = 1, first_byte: int = 0) -> str:
    """`raw` as UTF-8; raises `DataError` that names the line and byte of the first one that is not."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        where = f"{name}:{line}: byte 0x{raw[error.start]:02x} at position {first_byte + error.start} is not UTF-8"
        file = Path(name)
        encoding, looks = "WINDOWS-1252", "Latin-1 or Windows-1252"
        if first_byte == 0 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            encoding = looks = "UTF-16"
        raise DataError(
            f"{where}; the file looks like {looks}",
            help=f"convert it first: iconv -f {encoding} -t UTF-8 {file.name} > {file.stem}-utf8{file.suffix}",
        ) from error


def _read_json_lines(path: Path, name: str) -> Iterator[SourceRow]:
    position = 0
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            text = decode(raw, name, first_line=number, first_byte=position)
            position += len(raw)
            if number == 1:
                text = text.removeprefix("\ufeff")
            if text.strip():
                yield _row_of_line(text, f"{name}:{number}")


def _row_of_line(text: str, place: str) -> SourceRow:
    text = text.rstrip("\r\n")  # else a cut-off row's column is counted from the line after it
    try:
        return _checked(json.loads(text), place, text)
    except json.JSONDecodeError as error:
        return SourceRow({}, place, f"not valid JSON: {_reason(error)} at column {error.colno}", text)
    except RecursionError:
        return SourceRow({}, place, "not usable JSON: nested too deeply", text)


def _reason(error: json.JSONDecodeError) -> str:
    """What the JSON parser found, in words that start small."""
    return error.msg[:1].lower() + error.msg[1:]


def _checked(value: Any, place: str, text: str) -> SourceRow:
    if isinstance(value, dict):
        lone = _lone_half(value) if HALF_CHARACTER.search(text) else None
        return SourceRow({}, place, lone, text) if lone else SourceRow(value, place)
    kinds = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}
    return SourceRow({}, place, f"row is {kinds[type(value)]}, not an object with fields", text)


def _lone_half(value: dict[str, Any]) -> str | None:
    """What is wrong with text that was cut in the middle of a character, such as an emoji; None if nothing is."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        return f"not usable text: \\u{ord(half):04x} is one half of a character, and the other half is missing"
    return None


def _read_json(path: Path, name: str) -> Iterator[SourceRow]:
    """A JSON array of rows, or one row a line, as the content says."""
    with path.open("rb") as head:
        first = head.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first == b"[":
        yield from _read_array(path, name)
        return
    rows = _read_json_lines(path, name)
    opening = next(rows, None)
    if opening is None:
        return
    if opening.problem is not None:
        _refuse_single_object(path, name)
    yield opening
    yield from rows


def _refuse_single_object(path: Path, name: str) -> None:
    """Raise if the whole file is one object that holds the rows further in, instead of being rows."""
    try:
        value = json.loads(decode(path.read_bytes(), name))
    except (json.JSONDecodeError, RecursionError):
        return
    if not isinstance(value, dict):
        return
    keys = list(value)
    lists = [key for key in keys if isinstance(value[key], list) and value[key] and isinstance(value[key][0], dict)]
    shown = ", ".join(repr(key) for key in keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    raise DataError(
        f"{name} holds one object, not rows; its keys are {shown}",
        help=f"write the list under {lists[0]!r} to a file of its own"
        if lists
        else "write the rows as an array, or one object a line",
    )


def _read_array(path: Path, name: str) -> Iterator[SourceRow]:
    text = decode(path.read_bytes(), name).removeprefix("\ufeff")
    parse = json.JSONDecoder().raw_decode
    at = _skip_space(text, text.index("[") + 1)
    line, counted = 1, 0
    if text[at : at + 1] == "]":
        return
    while True:
        line, counted = line + text.count("\n", counted, at), at
        place = f"{name}:{line}"
        try:
            value, end = parse(text, at)
        except json.JSONDecodeError as error:
            # what follows a broken element cannot be told apart from it
            found_line = line + text.count("\n", at, error.pos)
            yield SourceRow({}, f"{name}:{found_line}", f"not valid JSON: {_reason(error)}", text[at:])
            return
        yield _checked(value, place, text[at:end])
        at = _skip_space(text, end)
        following = text[at : at + 1]
        if following == "]":
            return
        if following != ",":
            found_line = line + text.count("\n", counted, at)
            missing = "the file ends before the array does" if not following else "expecting ',' or ']' after a row"
            yield SourceRow({}, f"{name}:{found_line}", f"not valid JSON: {missing}", text[at:])
            return
        at = _skip_space(text, at + 1)


def _skip_space(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return match.end() if match else at


def _read_csv(path: Path, name: str) -> Iterator[SourceRow]:
    yield from _read_table(path, name, ",")


def _read_tsv(path: Path, name: str) -> Iterator[SourceRow]:
    yield from _read_table(path, name, "\t")


def _read_table(path: Path, name: str, delimiter: str) -> Iterator[SourceRow]:
    csv.field_size_limit(LARGEST_FIELD)
    text = decode(path.read_bytes(), name).removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        repeated = sorted({column for column in header if header.count(column) > 1})
        if repeated:
            raise DataError(
                f"{name}:1: column {repeated[0]!r} occurs twice", help="give every column a name of its own"
            )
        line = reader.line_num + 1
        for values in reader:
            place, line = f"{name}:{line}", reader.line_num + 1
            if not values:
                continue
            if len(values) == len(header):
                yield SourceRow(dict(zip(header, values, strict=True)), place)
            else:
                counts = f"{len(values)} column{'s' * (len(values) != 1)}, the header has {len(header)}"
                yield SourceRow({}, place, f"row has {counts}", delimiter.join(values))
    except csv.Error as error:
        yield SourceRow({}, f"{name}:{reader.line_num}", f"not valid CSV: {error}")


def _read_parquet(path: Path, name: str) -> Iterator[SourceRow]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield SourceRow(values, f"{name} row {number}")
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(name, "Parquet", error) from error


def _read_arrow(path: Path, name: str) -> Iterator[SourceRow]:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            try:
                reader = pa.ipc.open_stream(source)
                batches = iter(reader)
            except pa.ArrowInvalid:
                file = pa.ipc.open_file(source)
                batches = (file.get_batch(index) for index in range(file.num_record_batches))
            number = 0
            for batch in batches:
                for values in batch.to_pylist():
                    number += 1
                    yield SourceRow(values, f"{name} row {number}")
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(name, "Arrow", error) from error


def _unreadable(name: str, kind: str, error: Exception) -> DataError:
    return DataError(
        f"{name} cannot be read as {kind}: {' '.join(str(error).split())}",
        help="check that the file is complete, or name its true kind with ds_type",
    )


READERS: dict[str, Callable[[Path, str], Iterator[SourceRow]]] = {
    "json": _read_json,
    "jsonl": _read_json_lines,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
}
SUFFIXES = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
