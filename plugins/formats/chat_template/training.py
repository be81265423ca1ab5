"""Which parts of a conversation are trained: by role, by a flag of a message, by ranges of its characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from core import RowError
from core.data.formats import describe

ENDS = ("all", "turn", "last", "none")


@dataclass(frozen=True)
class Range:
    """Characters of a content. start: the first; stop: one past the last."""

    start: int
    stop: int
    trained: bool


@dataclass(frozen=True)
class Training:
    """What a message says of itself. flag: trained or not, None if its role decides. ranges: parts of its content."""

    flag: bool | None = None
    ranges: tuple[Range, ...] = ()

    def decide(self, by_role: bool) -> bool:
        """Whether any of the message is trained."""
        if self.flag is not None:
            return self.flag
        return any(found.trained for found in self.ranges) if self.ranges else by_role


UNSAID = Training()


def read_training(message: Mapping[str, Any], number: int, content: str, options: Mapping[str, Any]) -> Training:
    """What the properties that the options name say. Raises `RowError` (message numbers count from 1)."""
    if not options.get("message_field_training") and not options.get("message_field_training_detail"):
        return UNSAID
    flag = ranges = None
    if field := options.get("message_field_training"):
        flag = message.get(field)
        if flag is not None and not isinstance(flag, bool):
            raise RowError(f"{field!r} of message {number} is {describe(flag)}, not true or false")
    if field := options.get("message_field_training_detail"):
        ranges = message.get(field)
        if ranges is not None and not isinstance(ranges, list):
            raise RowError(f"{field!r} of message {number} is {describe(ranges)}, not a list of ranges")
    found = [
        _range(entry, f"range {index} of message {number}", content) for index, entry in enumerate(ranges or (), 1)
    ]
    found.sort(key=lambda one: one.start)
    for before, after in pairwise(found):
        if after.start < before.stop:
            raise RowError(f"ranges of message {number} overlap at character {after.start}")
    return Training(flag, tuple(found))


def _range(entry: Any, name: str, content: str) -> Range:
    if not isinstance(entry, dict):
        raise RowError(f"{name} is {describe(entry)}, not an object with begin_offset, end_offset and train")
    for key, kind in (("begin_offset", int), ("end_offset", int), ("train", bool)):
        if key not in entry:
            raise RowError(f"{name} has no {key!r}; it has: {', '.join(entry) or 'nothing'}")
        if type(entry[key]) is not kind:
            wanted = "true or false" if kind is bool else "a whole number"
            raise RowError(f"{key!r} of {name} is {describe(entry[key])}, not {wanted}")
    first, last = entry["begin_offset"], entry["end_offset"]
    if not 0 <= first <= last < len(content):
        raise RowError(
            f"{name} goes from {first} to {last}, the content has characters 0 to {len(content) - 1}",
            help="end_offset is the place of the last character of the range, counted from 0",
        )
    return Range(first, last + 1, entry["train"])


def parts_of(text: str, content: str, ranges: Sequence[Range], number: int) -> list[tuple[str, bool]]:
    """`text`, which the template made of `content`, in pieces of (text, trained); what is in no range is not trained.

    Raises `RowError` where the template changed more of it than the space around it.
    """
    start = content.find(text)
    if start < 0:
        raise RowError(f"the chat template changes message {number}, so that its ranges cannot be found in the text")
    marks = bytearray(len(content))
    for found in ranges:
        if found.trained:
            marks[found.start : found.stop] = b"\1" * (found.stop - found.start)
    pieces: list[tuple[str, bool]] = []
    for char, mark in zip(text, marks[start : start + len(text)], strict=True):
        if pieces and pieces[-1][1] == bool(mark):
            pieces[-1] = (pieces[-1][0] + char, bool(mark))
        else:
            pieces.append((char, bool(mark)))
    return pieces
