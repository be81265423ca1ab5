"""Which rows train together: the order of an epoch and its division into optimizer steps, micro batches and ranks.

The rows of an optimizer step depend on the seed and on the number of rows per step alone, never on how a step is
divided into micro batches and ranks: so the same recipe on other hardware trains on the same data in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MEGABATCH_STEPS = 50  # steps whose units are sorted by length together under group_by_length


@dataclass(frozen=True)
class MicroBatch:
    """Units computed together on one rank. counted: False for a stand-in that keeps an idle rank in step."""

    units: tuple[int, ...]
    counted: bool = True


@dataclass(frozen=True)
class BatchPlan:
    """Divides units into steps. A unit is what fills one line of a batch: one row, or one packed bin of several.

    rows: the row numbers in each unit. lengths: the tokens in each unit.
    shuffle: a new order in each epoch (else 0, 1, 2 ...). even: a micro batch is not padded to its longest, so
    that ranks compute alike when each gets long and short ones.
    """

    rows: Sequence[tuple[int, ...]]
    lengths: Sequence[int]
    micro_batch_size: int
    accumulation: int = 1
    world_size: int = 1
    seed: int = 0
    shuffle: bool = True
    group_by_length: bool = False
    even: bool = False

    @property
    def units_per_step(self) -> int:
        """Units in a full optimizer step, over all ranks and accumulated micro batches."""
        return self.micro_batch_size * self.accumulation * self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; the last may be smaller than the others."""
        return math.ceil(len(self.rows) / self.units_per_step)

    @property
    def micro_batches_per_epoch(self) -> int:
        """Micro batches that each rank computes in an epoch."""
        full, rest = divmod(len(self.rows), self.units_per_step)
        return full * self.accumulation + self._micro_batches(rest)

    def order(self, epoch: int) -> Sequence[int]:
        """All units in the order in which epoch number `epoch` trains on them."""
        import numpy

        if not self.shuffle:
            return range(len(self.rows))
        generator = numpy.random.default_rng([self.seed % 2**32, epoch])
        order = generator.permutation(len(self.rows)).tolist()
        if not self.group_by_length:
            return list(order)
        size = self.units_per_step
        steps: list[list[int]] = []
        for start in range(0, len(order), MEGABATCH_STEPS * size):
            chunk = sorted(order[start : start + MEGABATCH_STEPS * size], key=lambda unit: -self.lengths[unit])
            steps += [chunk[at : at + size] for at in range(0, len(chunk), size)]
        # only whole steps move: a smaller one stays last, where the number of micro batches expects it
        whole = len(order) // size
        return [
            unit
            for index in [*generator.permutation(whole).tolist(), *range(whole, len(steps))]
            for unit in steps[index]
        ]

    def step(self, order: Sequence[int], number: int) -> list[list[MicroBatch]]:
        """Step `number` of an epoch in `order`: [micro batch][rank]. Units of like length share a micro batch.

        Ranks take turns at the longest. Every rank gets the same number of micro batches; one that has no unit left
        gets a stand-in without targets.
        """
        units = list(order[number * self.units_per_step : (number + 1) * self.units_per_step])
        units.sort(key=lambda unit: (-self.lengths[unit], unit))
        count = self._micro_batches(len(units))
        share, extra = divmod(len(units), count * self.world_size)
        step = []
        start = 0
        for at in range(count):
            sizes = [share + (at * self.world_size + rank < extra) for rank in range(self.world_size)]
            own = units[start : start + sum(sizes)]
            start += sum(sizes)
            ranks = _dealt(own, self.world_size) if self.even else _cut(own, sizes)
            made = [MicroBatch(tuple(some)) if some else MicroBatch((units[-1],), counted=False) for some in ranks]
            step.append(made[::-1] if at % 2 else made)
        return step

    def epoch(self, epoch: int, rank: int) -> Iterator[MicroBatch]:
        """The micro batches of one rank in epoch number `epoch`, in order."""
        order = self.order(epoch)
        for number in range(self.steps_per_epoch):
            for ranks in self.step(order, number):
                yield ranks[rank]

    def rows_of_step(self, step: int) -> list[int]:
        """The row numbers of optimizer step `step`, counted from 0 over all epochs, in the order of the epoch."""
        epoch, number = divmod(step, self.steps_per_epoch)
        units = self.order(epoch)[number * self.units_per_step : (number + 1) * self.units_per_step]
        return [row for unit in units for row in self.rows[unit]]

    def _micro_batches(self, units: int) -> int:
        return math.ceil(units / (self.micro_batch_size * self.world_size))


def _cut(units: Sequence[int], sizes: Sequence[int]) -> list[Sequence[int]]:
    """Runs of `units` of these sizes, one after the other."""
    ends = list(accumulate(sizes))
    return [units[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _dealt(units: Sequence[int], ranks: int) -> list[Sequence[int]]:
    """`units`, longest first, one by one to each rank and back again; the numbers differ by one at most."""
    rounds = [units[at : at + ranks] for at in range(0, len(units), ranks)]
    hands: list[list[int]] = [[] for _ in range(ranks)]
    for number, turn in enumerate(rounds):
        for hand, unit in zip(hands[::-1] if number % 2 else hands, turn, strict=False):
            hand.append(unit)
    return list(hands)


def balance(plan: BatchPlan, load: Callable[[tuple[int, ...]], float], most: int | None = None) -> float | None:
    """The load of the most loaded rank in an optimizer step over the mean of all ranks: 1 is even.

    load: what a micro batch of these units costs. The mean over the full steps of the first epoch, at most `most` of
    them; None where the units do not fill one.
    """
    order, ratios = plan.order(0), []
    steps = len(plan.rows) // plan.units_per_step
    for number in range(steps if most is None else min(most, steps)):
        ranks = zip(*plan.step(order, number), strict=True)
        loads = [sum(load(batch.units) for batch in batches) for batches in ranks]
        ratios.append(max(loads) * len(loads) / sum(loads))
    return sum(ratios) / len(ratios) if ratios else None


class RankSampler:
    """What a DataLoader takes as `batch_sampler`: this rank's micro batches of the epoch last set."""

    def __init__(self, plan: BatchPlan, rank: int) -> None:
        self.plan = plan
        self.rank = rank
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration walks through."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.plan.micro_batches_per_epoch

    def __iter__(self) -> Iterator[MicroBatch]:
        return self.plan.epoch(self.epoch, self.rank)


class UnitRows:
    """What a DataLoader takes as `dataset`: hands over the rows of a whole micro batch at once.

    An element is (counted, [rows of one unit, ...]) for the collator.
    """

    def __init__(self, dataset: Any, plan: BatchPlan) -> None:
        self.dataset = dataset
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan.rows)

    def __getitems__(self, batch: MicroBatch) -> tuple[bool, list[list[dict[str, Any]]]]:
        numbers = [row for unit in batch.units for row in self.plan.rows[unit]]
        columns = self.dataset[numbers]
        rows = iter([dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)])
        return batch.counted, [[next(rows) for _ in self.plan.rows[unit]] for unit in batch.units]


def row_lengths(dataset: Any) -> list[int]:
    """The number of tokens in each row of a `datasets.Dataset` with a column `input_ids`."""
    import pyarrow.compute

    lengths: list[int] = []
    for batch in dataset.select_columns(["input_ids"]).with_format("arrow").iter(batch_size=4096):
        lengths += pyarrow.compute.list_value_length(batch["input_ids"]).to_pylist()
    return lengths


@dataclass(frozen=True)
class Source:
    """Where batches come from: the rows, how they are divided, and how a micro batch's rows become tensors.

    streamed: the rows are read while training, and `dataset` holds those of the current steps alone.
    """

    dataset: Any
    plan: BatchPlan
    collate: Callable[[tuple[bool, list[list[dict[str, Any]]]]], dict[str, torch.Tensor]]
    streamed: bool = False
