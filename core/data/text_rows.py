"""A row as it stands in its source, and rows out of plain text: CSV, TSV, and one text a line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.data.opened import SourceFile, opened, opened_text
from core.errors import DataError

LARGEST_FIELD = 2**31 - 1
SIDE_BY_SIDE, LEAST_BESIDE = re.compile(rb"[\x80-\xff]{2,}"), 6  # bytes
TEXT = "text"  # the field of a row that is one line of a text file


@dataclass(frozen=True)
class SourceRow:
    """One row as it stands in its source. place: `file:line`, or `file row N` (from 1) where a file has no lines.

    problem: why the row cannot be used, or None; `values` is empty then and `text` is what stands there; help: what to
    do about it.
    """

    values: dict[str, Any]
    place: str
    problem: str | None = None
    text: str = field(default="", compare=False)
    help: str | None = field(default=None, compare=False)


def decode(raw: bytes, name: str, *, first_line: int = 1, first_byte: int = 0) -> str:
    """`raw` as UTF-8; raises `DataError` that names the line and byte of the first one that is not."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        where = f"{name}:{line}: byte 0x{raw[error.start]:02x} at position {first_byte + error.start} is not UTF-8"
        file = Path(name)
        encoding, looks = "WINDOWS-1252", "Latin-1 or Windows-1252"
        rest = raw[error.start :].partition(b"\n")[0]
        beside = sum(map(len, SIDE_BY_SIDE.findall(rest)))
        # letters with accents stand alone, those of other scripts side by side
        if beside >= LEAST_BESIDE and beside > 0.7 * sum(byte > 127 for byte in rest):
            encoding, looks = "ENCODING", "Shift JIS, GB 18030, Windows-1251 or the like"
        if first_byte == 0 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            encoding = looks = "UTF-32" if raw[:4] == b"\xff\xfe\0\0" else "UTF-16"
        raise DataError(
            f"{where}; the file looks like {looks}",
            help=f"convert it first: iconv -f {encoding} -t UTF-8 {file.name} > {file.stem}-utf8{file.suffix}",
        ) from error


def bad_bytes(file: SourceFile) -> DataError:
    """What is wrong with `file`, in which some byte is not UTF-8; reads it again to find the place."""
    position = 0
    try:
        with opened(file) as lines:
            for number, raw in enumerate(lines, start=1):
                decode(raw, file.name, first_line=number, first_byte=position)
                position += len(raw)
    except DataError as error:
        return error
    return DataError(f"{file.name} changed while it was read", help="start again once it is complete")


def read_csv(file: SourceFile) -> Iterator[SourceRow]:
    """Rows of a table with a header, parted by commas."""
    return _read_table(file, ",")


def read_tsv(file: SourceFile) -> Iterator[SourceRow]:
    """Rows of a table with a header, parted by tabs."""
    return _read_table(file, "\t")


def _read_table(file: SourceFile, delimiter: str) -> Iterator[SourceRow]:
    csv.field_size_limit(LARGEST_FIELD)
    name = file.name
    with opened_text(file, bad_bytes) as source:
        reader = csv.reader(source, delimiter=delimiter, strict=True)
        try:
            header = next(reader, None)
            if header is None:
                return
            _check_header(header, name)
            line = reader.line_num + 1
            for values in reader:
                place, line = f"{name}:{line}", reader.line_num + 1
                if not values:
                    continue
                yield _row(values, header, place, delimiter)
        except csv.Error as error:
            yield SourceRow({}, f"{name}:{reader.line_num}", f"not valid CSV: {error}")


def _check_header(header: list[str], name: str) -> None:
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated and repeated != [""]:
        raise DataError(f"{name}:1: column {repeated[-1]!r} occurs twice", help="give every column a name of its own")
    if "" in header:
        number = header.index("") + 1
        raise DataError(f"{name}:1: column {number} has no name", help="give every column a name, or take it out")


def _row(values: list[str], header: list[str], place: str, delimiter: str) -> SourceRow:
    if len(values) != len(header):
        counts = f"{len(values)} column{'s' * (len(values) != 1)}, the header has {len(header)}"
        return SourceRow({}, place, f"row has {counts}", delimiter.join(values))
    for column, value in zip(header, values, strict=True):
        if "\0" in value:
            return SourceRow({}, place, f"field {column!r} holds a NUL character", delimiter.join(values))
    return SourceRow(dict(zip(header, values, strict=True)), place)


def read_text(file: SourceFile) -> Iterator[SourceRow]:
    """One row a line, with the field `text`; blank lines are none."""
    position = 0
    with opened(file) as lines:
        for number, raw in enumerate(lines, start=1):
            text = decode(raw, file.name, first_line=number, first_byte=position).rstrip("\r\n")
            position += len(raw)
            if number == 1:
                text = text.removeprefix("\ufeff")
            if "\0" in text:
                yield SourceRow({}, f"{file.name}:{number}", "the line holds a NUL character", text)
            elif text.strip():
                yield SourceRow({TEXT: text}, f"{file.name}:{number}")
