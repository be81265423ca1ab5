"""Rows out of JSON: one a line, or the elements of an array, read piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from core.data.opened import CHUNK, SourceFile, opened, opened_text
from core.data.text_rows import SourceRow, bad_bytes, decode
from core.errors import DataError

LARGEST_ROW = 1 << 28  # characters; what is longer is a bracket that nobody closes
SPACE = re.compile(r"[ \t\n\r]*")
HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")  # an escape that stands for a character only beside its other half


def read_json_lines(file: SourceFile) -> Iterator[SourceRow]:
    """One row a line; blank lines are none."""
    position, parser = 0, _Parser()
    with opened(file) as lines:
        for number, raw in enumerate(lines, start=1):
            text = decode(raw, file.name, first_line=number, first_byte=position)
            position += len(raw)
            if number == 1:
                text = text.removeprefix("\ufeff")
            if text.strip():
                yield _row_of_line(text, f"{file.name}:{number}", parser)


def read_json(file: SourceFile) -> Iterator[SourceRow]:
    """A JSON array of rows, or one row a line, as the content says."""
    with opened(file) as source:
        first = source.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first == b"[":
        yield from _read_array(file)
        return
    rows = read_json_lines(file)
    opening = next(rows, None)
    if opening is None:
        return
    if opening.problem is not None:
        _refuse_single_object(file)
    yield opening
    yield from rows


class _Parser:
    """Parses JSON and notes a key that an object has more than once, of which others keep the last without a word."""

    def __init__(self) -> None:
        self.repeated: str | None = None
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object)

    def whole(self, text: str) -> Any:
        """The one value that `text` is."""
        self.repeated = None
        return self._decoder.decode(text)

    def first(self, text: str, at: int) -> tuple[Any, int]:
        """The value that begins at `at`, and where it ends."""
        self.repeated = None
        return self._decoder.raw_decode(text, at)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs) and self.repeated is None:
            keys = [key for key, _ in pairs]
            self.repeated = next(key for key in keys if keys.count(key) > 1)
        return made


def _row_of_line(text: str, place: str, parser: _Parser) -> SourceRow:
    text = text.rstrip("\r\n")  # else a cut-off row's column is counted from the line after it
    if text.startswith("\ufeff"):
        help = "files that were put together leave such marks: take it out"
        return SourceRow({}, place, "a byte order mark stands in front of the row", text, help)
    try:
        return _checked(parser.whole(text), place, text, parser.repeated)
    except json.JSONDecodeError as error:
        problem = f"not valid JSON: {_reason(error)} at column {error.colno}"
        return SourceRow({}, place, problem, text, _json_help(text, error))
    except RecursionError:
        return SourceRow({}, place, "not usable JSON: nested too deeply", text)
    except ValueError as error:  # a whole number of thousands of digits
        return SourceRow({}, place, f"not usable JSON: {_first_clause(error)}", text)


def _first_clause(error: ValueError) -> str:
    text = str(error).partition(";")[0]
    return text[:1].lower() + text[1:]


def _reason(error: json.JSONDecodeError) -> str:
    """What the JSON parser found, in words that start small."""
    return (error.msg[:1].lower() + error.msg[1:]).removesuffix(" at")


def _json_help(text: str, error: json.JSONDecodeError) -> str | None:
    """What to do about a line that is no JSON, where that is plain to see."""
    bare = text.strip()
    if bare in ("{", "["):
        return "write each row on one line, as `jq -c` does; or set ds_type: json if the file is one JSON array"
    if "Extra data" in error.msg and bare.startswith("{"):
        return (
            "take the comma at the end of the line away"
            if bare[error.pos :].strip() == ","
            else "write each row on a line of its own"
        )
    after = text[error.pos : error.pos + 5]
    if after.startswith(("'", "None", "True", "False")):
        return "the row is written as Python shows it: write it with json.dumps"
    if "control character" in error.msg:
        return "write line breaks, tabs and the like as \\n, \\t or \\u0000 inside texts"
    return None


def _checked(value: Any, place: str, text: str, repeated: str | None) -> SourceRow:
    if repeated is not None:
        problem = f"the key {repeated!r} occurs twice in one object"
        return SourceRow({}, place, problem, text, "keep one of the two: nobody can tell which one is meant")
    if isinstance(value, dict):
        lone = _lone_half(value) if HALF_CHARACTER.search(text) else None
        return SourceRow({}, place, lone, text) if lone else SourceRow(value, place)
    kinds = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}
    rows = isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)
    help = "the line is an array of rows: set ds_type: json, or write each row on a line of its own" if rows else None
    return SourceRow({}, place, f"row is {kinds[type(value)]}, not an object with fields", text, help)


def _lone_half(value: dict[str, Any]) -> str | None:
    """What is wrong with text that was cut in the middle of a character, such as an emoji; None if nothing is."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        return f"not usable text: \\u{ord(half):04x} is one half of a character, and the other half is missing"
    return None


def _refuse_single_object(file: SourceFile) -> None:
    """Raise if the whole file is one object that holds the rows further in, instead of being rows."""
    with opened(file) as source:
        content = source.read(LARGEST_ROW)
    try:
        value = json.loads(decode(content, file.name).removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return
    if not isinstance(value, dict):
        return
    keys = list(value)
    lists = [key for key in keys if isinstance(value[key], list) and value[key] and isinstance(value[key][0], dict)]
    shown = ", ".join(repr(key) for key in keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    raise DataError(
        f"{file.name} holds one object, not rows; its keys are {shown}",
        help=f"write the list under {lists[0]!r} to a file of its own"
        if lists
        else "write the rows as an array, or one object a line",
    )


def _read_array(file: SourceFile) -> Iterator[SourceRow]:
    with opened_text(file, bad_bytes) as source:
        array = _Array(source)
        array.next_mark()
        array.at += 1  # the opening bracket
        if array.next_mark() == "]":
            yield from _after_array(array, file.name)
            return
        while True:
            place = f"{file.name}:{array.line}"
            try:
                value, end = array.element()
            except json.JSONDecodeError as error:
                # what follows a broken element cannot be told apart from it
                found = array.line + array.text.count("\n", array.at, error.pos)
                yield SourceRow({}, f"{file.name}:{found}", f"not valid JSON: {_reason(error)}", array.rest())
                return
            except RecursionError:
                yield SourceRow({}, place, "not usable JSON: nested too deeply", array.rest())
                return
            except ValueError as error:
                yield SourceRow({}, place, f"not usable JSON: {_first_clause(error)}", array.rest())
                return
            text = array.text[array.at : end]
            array.go(end)
            yield _checked(value, place, text, array.parser.repeated)
            following = array.next_mark()
            if following == "]":
                yield from _after_array(array, file.name)
                return
            if following != ",":
                missing = "the file ends before the array does" if not following else "expecting ',' or ']' after a row"
                yield SourceRow({}, f"{file.name}:{array.line}", f"not valid JSON: {missing}", array.rest())
                return
            array.at += 1
            array.next_mark()


def _after_array(array: _Array, name: str) -> Iterator[SourceRow]:
    """What stands after the closing bracket, which would be rows that nobody reads."""
    array.at += 1
    if array.next_mark():
        yield SourceRow({}, f"{name}:{array.line}", "not valid JSON: text after the end of the array", array.rest())


class _Array:
    """The text of an array while it is read. at: where reading goes on in `text`; line: the line of that place."""

    def __init__(self, source: TextIO) -> None:
        self._source, self.parser = source, _Parser()
        self.text, self.at, self.line = "", 0, 1

    def go(self, end: int) -> None:
        """Go on at `end`."""
        self.line += self.text.count("\n", self.at, end)
        self.at = end

    def next_mark(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            match = SPACE.match(self.text, self.at)
            self.go(match.end() if match else self.at)
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def element(self) -> tuple[Any, int]:
        """The value at this place, and where it ends. Raises `json.JSONDecodeError` if there is none."""
        while True:
            try:
                value, end = self.parser.first(self.text, self.at)
            except json.JSONDecodeError:
                # it may only be cut off where the text read so far ends
                if len(self.text) - self.at > LARGEST_ROW or not self._more():
                    raise
                continue
            if end < len(self.text) or not self._more():
                return value, end

    def rest(self) -> str:
        """Some of what follows, to show."""
        return self.text[self.at : self.at + 1000]

    def _more(self) -> bool:
        """Read on, twice as much as is left; what was read before goes."""
        left = self.text[self.at :]
        more = self._source.read(max(CHUNK, len(left)))
        self.text, self.at = left + more, 0
        return bool(more)
