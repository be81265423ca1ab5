"""Renders rows through their format; rows that cannot be used are all counted, and the first ten shown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from core.data.columns import propose
from core.data.files import SourceRow
from core.data.sources import read_rows, shown
from core.errors import DataError, PluginError, RowError
from core.types import DatasetPlan, Example

if TYPE_CHECKING:
    from core.types import Tokenizer

SHOWN = 10
LONGEST_SHOWN = 100


@dataclass
class BadRows:
    """The rows of one data set that cannot be used, while it is read.

    skipped: the share of rows that may be left out of it; None if not one may.
    """

    dataset: DatasetPlan
    skipped: float | None = None
    read: int = 0
    count: int = 0
    lines: list[str] = field(default_factory=list)
    helps: Counter[str] = field(default_factory=Counter)
    first_help: str | None = None
    missing: Counter[str] = field(default_factory=Counter)
    sample: dict[str, Any] = field(default_factory=dict)

    def add(self, row: SourceRow, problem: str, *, help: str | None = None, missing: str | None = None) -> None:
        """Count `row` as unusable because of `problem`; `missing` is the field it lacks, if that is the problem."""
        self.count += 1
        if missing is not None:
            self.missing[missing] += 1
            self.sample = self.sample or row.values
        if help:
            self.helps[help] += 1
            if self.count == 1:
                self.first_help = help
        if len(self.lines) < SHOWN:
            shown_row = _shortened(row)
            self.lines.append(f"{row.place}: {problem}" + (f": {shown_row}" if shown_row else ""))

    def refuse(self) -> None:
        """Raise `DataError` if there was any, or more than may be left out."""
        if not self.count or (self.skipped is not None and self.count <= self.skipped * self.read):
            return
        name = shown(self.dataset.path)
        (lacking, lack), *_ = [*self.missing.most_common(1), ("", 0)]
        if lack * 2 > self.read:
            whom = "no row has" if lack == self.read else f"{lack:,} of {self.read:,} rows lack"
            message = f"{name}: {whom} the field {lacking!r} that format {self.dataset.format.name!r} reads"
            fields = ", ".join(self.sample) or "none"
            raise DataError(f"{message}; the fields are: {fields}", help=propose(self.sample))
        (usual, times), *_ = [*self.helps.most_common(1), ("", 0)]
        help = self.first_help or (usual if times * 2 >= self.count else "correct these rows or take them out")
        if self.skipped is not None:
            help += f"; max_bad_rows lets {self.skipped:.0%} be skipped, these are {self.count / self.read:.1%}"
        if self.count == 1:
            raise DataError(self.lines[0], help=help.replace("these rows or take them out", "this row or take it out"))
        left = f"\n  ... and {self.count - SHOWN:,} more" if self.count > SHOWN else ""
        listed = "".join(f"\n  {line}" for line in self.lines)
        raise DataError(f"{self.count:,} of {self.read:,} rows of {name} cannot be used{listed}{left}", help=help)


def render_rows(
    dataset: DatasetPlan, tokenizer: Tokenizer, bad: BadRows, most: int | None = None
) -> Iterator[tuple[int, SourceRow, Sequence[Example]]]:
    """(number from 1, row, examples) for each row of `dataset`, or its first `most`; rows that cannot be rendered go to
    `bad` instead."""
    for row in islice(read_rows(dataset), most):
        bad.read += 1
        examples = render_row(dataset, row, tokenizer, bad)
        if examples:
            yield bad.read, row, examples


def render_row(dataset: DatasetPlan, row: SourceRow, tokenizer: Tokenizer, bad: BadRows) -> Sequence[Example]:
    """The examples of one row; none for a row that cannot be rendered, which goes to `bad`."""
    if row.problem is not None:
        bad.add(row, row.problem, help=row.help)
        return ()
    try:
        return _render(dataset, row.values, tokenizer)
    except RowError as error:
        missing = error.field if error.field is not None and error.field not in row.values else None
        bad.add(row, error.message, help=error.help, missing=missing)
    except KeyError as error:
        name = error.args[0] if error.args else None
        if name in row.values or not isinstance(name, str):
            raise
        bad.add(row, f"row has no field {name!r}; it has: {', '.join(row.values) or 'none'}", missing=name)
    return ()


def _render(dataset: DatasetPlan, values: dict[str, Any], tokenizer: Tokenizer) -> Sequence[Example]:
    examples = dataset.format.render(values, dataset.options, tokenizer)
    if not isinstance(examples, list | tuple) or not all(isinstance(example, Example) for example in examples):
        raise PluginError(f"format {dataset.format.name!r} returned {examples!r}, not a list of Example")
    if not examples:
        raise RowError(f"format {dataset.format.name!r} made no example of it")
    return examples


def _shortened(row: SourceRow) -> str:
    """The row on one line of at most LONGEST_SHOWN characters; empty where nothing of it is known."""
    text = row.text if row.problem is not None else json.dumps(row.values, ensure_ascii=False, default=str)
    text = " ".join(text[: 4 * LONGEST_SHOWN].split())
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"
