"""The part of a source that `split` and `shards` name: `train[:20%]`, a name, one of several equal parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from core.data.text_rows import SourceRow
from core.errors import DataError

# the names that mark a file of a folder as part of a split, as the hub reads them
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}
_FROM_THE_START = re.compile(r"\[(\d*):(\d*)\]")


@dataclass(frozen=True)
class Rows:
    """Rows that can be read more than once. count: how many there are, where that is known without reading them."""

    read: Callable[[], Iterator[SourceRow]]
    count: int | None = None

    def counted(self) -> int:
        """How many there are."""
        return sum(1 for _ in self.read()) if self.count is None else self.count


def parted(split: str | None) -> tuple[str, str]:
    """`train[:20%]` -> (`train`, `[:20%]`); nothing -> (``, ``)."""
    name, bracket, part = (split or "").partition("[")
    return name.strip(), bracket + part


def split_in_name(stem: str) -> str | None:
    """The split that a file belongs to by its name; None if the name does not say."""
    words = re.split(r"[^a-z]+", stem.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def selected(rows: Rows, split: str | None, options: Mapping[str, Any]) -> Iterator[SourceRow]:
    """The rows that the slice of `split`, and `shards` with `shards_idx`, leave.

    Shares, places counted from the end, and shards need the number of rows, so that a source which does not tell it is
    read twice. Raises `DataError` for a part that cannot be had.
    """
    name, part = parted(split)
    shards = int(options.get("shards") or 0)
    index = int(options.get("shards_idx") or 0)
    if shards and not 0 <= index < shards:
        raise DataError(f"shards_idx {index} is not one of {shards} shards", help=f"use 0 to {shards - 1}")
    plain = _FROM_THE_START.fullmatch(part) if part else None
    if not shards and plain and plain[2]:
        yield from _first(rows, int(plain[1] or 0), int(plain[2]), f"{name or 'train'}{part}")
        return
    start, stop = 0, None
    if part or shards:
        count = rows.counted()
        start, stop = _window(name or "train", part, count) if part else (0, count)
        if shards:
            size, larger = divmod(stop - start, shards)
            start += index * size + min(index, larger)
            stop = start + size + (index < larger)
    yield from islice(rows.read(), start, stop)


def _first(rows: Rows, start: int, stop: int, asked: str) -> Iterator[SourceRow]:
    """Rows `start` to `stop`, counted from the beginning: nothing after them is read."""
    read = 0
    for read, row in enumerate(islice(rows.read(), stop), start=1):
        if read > start:
            yield row
    if read < stop or stop < start:
        raise _unusable(asked, read, f"the slice ends at {stop}" if stop >= start else "it ends before it begins")


def _window(name: str, part: str, count: int) -> tuple[int, int]:
    """The first row of a slice, and one past its last, as `datasets` reads it."""
    from datasets import ReadInstruction

    try:
        pieces = ReadInstruction.from_spec(name + part).to_absolute({name: count})
    except (ValueError, AssertionError) as error:
        raise _unusable(name + part, count, " ".join(str(error).split())) from error
    if len(pieces) != 1:
        raise _unusable(name + part, count, "it names several parts")
    return pieces[0].from_ or 0, count if pieces[0].to is None else pieces[0].to


def _unusable(asked: str, count: int, reason: str) -> DataError:
    return DataError(
        f"split {asked!r} cannot be used on {count} rows: {reason}",
        help="write it as train[:20%], train[100:200] or train[-50:]",
    )
