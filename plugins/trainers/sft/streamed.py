"""Training rows that are read while training: the main process reads a step ahead, and every rank gets its steps.

What a step trains on depends on the stream and on the number of rows per step alone, as it does for prepared rows. The
rows of the current steps are at hand under numbers, so that everything else divides and collates them as ever.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, overload

from core import DataError, Plan, UserError
from core.packing import pack_dataset
from core.processes import broadcast_object, is_main

from .packed import Layout

if TYPE_CHECKING:
    from core.data.stream import Stream, StreamedRow

    from .batches import Source

KEPT_STEPS = 3  # a step may be begun again, and its rows named, after the next was asked for
MOST = 1 << 20  # rows of a unit, in the numbering of rows
Unit = list["StreamedRow"]
Found = TypeVar("Found")


def streamed_source(plan: Plan, source: Source, stream: Stream, layout: Layout) -> Source:
    """`source`, which divides and collates the first rows, for the rows of `stream`: one epoch of `max_steps` steps."""
    batches = source.plan
    steps, per_step = int(plan.recipe["max_steps"]), batches.units_per_step
    room = plan.recipe["sequence_len"] or 2048
    size = int(plan.recipe["streaming_multipack_buffer_size"])
    padded = bool(plan.recipe["pad_to_sequence_len"])

    def units() -> Iterator[Unit]:
        if layout.bins:
            return packed_units(stream.rows(), size, room, batches.seed, share=layout.share, padded=padded)
        return ([row] for row in stream.rows())

    window = Window(units, steps, per_step)
    lazy = replace(
        batches,
        rows=_Made(steps * per_step, window.numbers),
        lengths=_Made(steps * per_step, window.length),
        shuffle=False,
        group_by_length=False,
    )
    return replace(source, dataset=WindowRows(window), plan=lazy, streamed=True)


def packed_units(
    rows: Iterator[StreamedRow], size: int, room: int, seed: int, *, share: bool, padded: bool = False
) -> Iterator[Unit]:
    """Bins of at most `room` tokens: `size` rows at a time are packed together, their bins in an order of the seed.
    padded: whether each bin will be padded to `room`."""
    rng = random.Random(f"{seed}/bins")
    while held := list(islice(rows, size)):
        arrays = [{"input_ids": row.input_ids, "labels": row.labels} for row in held]
        bins = list(pack_dataset(arrays, room, share_prefixes=share, padded=padded).bins)
        rng.shuffle(bins)
        yield from ([held[row] for row in members] for members in bins)


class Window:
    """The units of the last steps, by number. Every rank asks for the steps in the same order; the main one reads."""

    def __init__(self, units: Callable[[], Iterator[Unit]], steps: int, per_step: int) -> None:
        self.steps, self.per_step = steps, per_step
        self._make = units
        self._units: Iterator[Unit] | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="streamed rows")
        self._ahead: Future[list[Unit]] | None = None
        self._next = 0
        self._held: dict[int, list[Unit]] = {}

    def unit(self, number: int) -> Unit:
        """The rows of a unit; reads on where it was not read yet.

        Raises `DataError` on every rank for rows that cannot be used.
        """
        step, at = divmod(number, self.per_step)
        while self._next <= step:
            self._held[self._next] = self._read()
            self._held.pop(self._next - KEPT_STEPS, None)
            self._next += 1
        if step not in self._held:
            raise LookupError(f"step {step} of the stream is over, the next to read is {self._next}")
        return self._held[step][at]

    def numbers(self, unit: int) -> tuple[int, ...]:
        """The numbers of a unit's rows."""
        return tuple(unit * MOST + index for index in range(len(self.unit(unit))))

    def length(self, unit: int) -> int:
        """The tokens of a unit."""
        return sum(len(row.input_ids) for row in self.unit(unit))

    def row(self, number: int) -> StreamedRow:
        """A row by its number."""
        return self.unit(number // MOST)[number % MOST]

    def _read(self) -> list[Unit]:
        """The next step, from the main process."""
        outcome: tuple[list[Unit], tuple[str, str | None] | None] = ([], None)
        if is_main():
            try:
                outcome = (self._ahead.result() if self._ahead else self._take(), None)
            except UserError as error:
                outcome = ([], (error.message, error.help))
            if outcome[1] is None and self._next + 1 < self.steps:
                self._ahead = self._reader.submit(self._take)
        units, refused = broadcast_object(outcome)
        if refused is not None:
            raise DataError(refused[0], help=refused[1])
        return units

    def _take(self) -> list[Unit]:
        if self._units is None:
            self._units = self._make()
        return list(islice(self._units, self.per_step))


class WindowRows:
    """What stands in for a data set: the rows of a window, some at once, by columns."""

    def __init__(self, window: Window) -> None:
        self.window = window

    def __getitem__(self, numbers: Sequence[int]) -> dict[str, list[Any]]:
        rows = [self.window.row(number) for number in numbers]
        return {"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]}

    def places(self, numbers: Sequence[int]) -> list[str]:
        """Where rows stand."""
        return [self.window.row(number).place for number in numbers]


class _Made(Sequence[Found]):
    """A sequence whose elements are made when they are asked for."""

    def __init__(self, count: int, make: Callable[[int], Found]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Found: ...
    @overload
    def __getitem__(self, index: slice) -> list[Found]: ...
    def __getitem__(self, index: int | slice) -> Found | list[Found]:
        if isinstance(index, slice):
            return [self._make(number) for number in range(*index.indices(self._count))]
        return self._make(index)
