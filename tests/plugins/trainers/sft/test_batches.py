from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from plugins.trainers.sft.batches import BatchPlan, RankSampler, UnitRows, balance, row_lengths


def plan(rows: int, micro: int, accumulation: int, world: int, **options: object) -> BatchPlan:
    lengths = numpy.random.default_rng(rows).integers(1, 100, rows).tolist()
    return BatchPlan([(row,) for row in range(rows)], lengths, micro, accumulation, world, **options)  # type: ignore[arg-type]


def rows_by_step(batches: BatchPlan, epoch: int) -> list[list[int]]:
    """What all ranks together train on, step by step, as the ranks' own samplers give it."""
    streams = [list(batches.epoch(epoch, rank)) for rank in range(batches.world_size)]
    assert {len(stream) for stream in streams} == {batches.micro_batches_per_epoch}
    steps = []
    for number in range(batches.steps_per_epoch):
        slots = slice(number * batches.accumulation, (number + 1) * batches.accumulation)
        units = [unit for stream in streams for batch in stream[slots] if batch.counted for unit in batch.units]
        steps.append(sorted(units))
    return steps


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 24, 26, 33])
def test_the_rows_of_a_step_do_not_depend_on_how_it_is_divided(rows: int, group: bool) -> None:
    divisions = [(8, 1, 1), (4, 2, 1), (1, 8, 1), (4, 1, 2), (1, 4, 2), (2, 1, 4), (1, 1, 8)]
    for epoch in range(2):
        results = [rows_by_step(plan(rows, *sizes, seed=3, group_by_length=group), epoch) for sizes in divisions]
        assert all(result == results[0] for result in results)
        assert sorted(row for step in results[0] for row in step) == list(range(rows))


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_every_row_is_trained_once_and_no_micro_batch_is_too_large(
    rows: int, micro: int, accumulation: int, world: int
) -> None:
    batches = plan(rows, micro, accumulation, world)
    order = batches.order(0)
    seen = []
    for number in range(batches.steps_per_epoch):
        step = batches.step(order, number)
        assert 1 <= len(step) <= accumulation
        assert all(len(ranks) == world for ranks in step)
        for batch in (batch for ranks in step for batch in ranks):
            assert 1 <= len(batch.units) <= micro
            seen += batch.units if batch.counted else []
    assert sorted(seen) == list(range(rows))


def test_epochs_differ_repeat_and_follow_the_seed() -> None:
    first = plan(50, 4, 1, 1, seed=1)
    assert first.order(0) == first.order(0)
    assert first.order(0) != first.order(1)
    assert first.order(0) != plan(50, 4, 1, 1, seed=2).order(0)
    assert list(plan(50, 4, 1, 1, shuffle=False).order(5)) == list(range(50))


def test_rows_of_step_counts_over_epochs_and_looks_into_bins() -> None:
    batches = BatchPlan([(0, 1), (2,), (3, 4)], [9, 5, 9], micro_batch_size=2, seed=1)
    assert batches.steps_per_epoch == 2
    assert sorted(batches.rows_of_step(0) + batches.rows_of_step(1)) == [0, 1, 2, 3, 4]
    assert sorted(batches.rows_of_step(2) + batches.rows_of_step(3)) == [0, 1, 2, 3, 4]


def test_group_by_length_puts_like_lengths_into_a_step() -> None:
    def spread(batches: BatchPlan) -> float:
        spans = []
        for number in range(batches.steps_per_epoch):
            lengths = [batches.lengths[row] for row in batches.rows_of_step(number)]
            spans.append(max(lengths) - min(lengths))
        return sum(spans) / len(spans)

    assert spread(plan(200, 4, 2, 1, group_by_length=True)) < 0.2 * spread(plan(200, 4, 2, 1))


def test_lines_of_like_length_share_a_micro_batch() -> None:
    batches = plan(64, 4, 4, 1)
    order = batches.order(0)
    lengths = [[batches.lengths[unit] for unit in ranks[0].units] for ranks in batches.step(order, 0)]
    assert all(min(left) >= max(right) for left, right in pairwise(lengths))


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize(("rows", "micro", "accumulation", "world"), [(96, 4, 2, 3), (50, 4, 3, 4), (7, 2, 1, 5)])
def test_every_unit_is_dealt_once_and_no_micro_batch_is_too_large(even, rows, micro, accumulation, world) -> None:
    batches = plan(rows, micro, accumulation, world, even=even)
    order = batches.order(0)
    for number in range(batches.steps_per_epoch):
        step = batches.step(order, number)
        assert all(len(ranks) == world for ranks in step)
        dealt = [unit for ranks in step for batch in ranks if batch.counted for unit in batch.units]
        assert sorted(dealt) == sorted(order[number * batches.units_per_step :][: batches.units_per_step])
        assert all(1 <= len(batch.units) <= micro for ranks in step for batch in ranks)


def test_ranks_compute_alike() -> None:
    def load(batches: BatchPlan) -> float:
        step = batches.step(batches.order(0), 0)
        loads = [sum(batches.lengths[u] for batch in own for u in batch.units) for own in zip(*step, strict=True)]
        return max(loads) * len(loads) / sum(loads)

    assert load(plan(96, 4, 2, 4)) < 1.15  # 1.38 if the first rank got the longest each time
    assert load(plan(96, 4, 2, 4, even=True)) < 1.02
    assert load(plan(96, 8, 1, 4, even=True)) < 1.02 < 1.5 < load(plan(96, 8, 1, 4))


def test_balance_is_the_busiest_rank_over_the_mean() -> None:
    lengths = [90, 10, 60, 40]
    batches = BatchPlan([(0,), (1,), (2,), (3,)], lengths, 1, world_size=2, shuffle=False)

    def load(units: tuple[int, ...]) -> float:
        return float(sum(lengths[unit] for unit in units))

    # 90 beside 10, and 60 beside 40: 90 / 50 and 60 / 50
    assert balance(batches, load) == pytest.approx((1.8 + 1.2) / 2)
    assert balance(batches, load, 1) == pytest.approx(1.8)
    assert balance(replace(batches, micro_batch_size=4), load) is None  # too few units for one step
    assert balance(replace(batches, world_size=1), load) == 1


def test_a_sampler_walks_the_epoch_it_was_set_to() -> None:
    batches = plan(20, 2, 2, 2)
    sampler = RankSampler(batches, 1)
    assert len(sampler) == len(list(sampler)) == 5
    sampler.set_epoch(3)
    assert list(sampler) == list(batches.epoch(3, 1))
    assert list(sampler) != list(batches.epoch(0, 1))


def test_the_loader_gets_the_rows_of_each_unit() -> None:
    rows = Dataset.from_dict({"input_ids": [[1], [2, 2], [3, 3, 3]], "labels": [[1], [2, 2], [3, 3, 3]]})
    batches = BatchPlan([(2, 0), (1,)], row_lengths(rows), micro_batch_size=2, shuffle=False)
    (batch,) = batches.epoch(0, 0)
    counted, units = UnitRows(rows, batches).__getitems__(batch)
    assert counted
    by_unit = dict(zip(batch.units, units, strict=True))
    assert [row["input_ids"] for row in by_unit[0]] == [[3, 3, 3], [1]]
    assert [row["input_ids"] for row in by_unit[1]] == [[2, 2]]


def test_lengths_follow_a_selection_of_rows() -> None:
    rows = Dataset.from_dict({"input_ids": [[1] * size for size in (5, 1, 3, 2)]})
    assert row_lengths(rows) == [5, 1, 3, 2]
    assert row_lengths(rows.select([3, 0])) == [2, 5]


def test_product_of_sizes_is_the_global_batch() -> None:
    for micro, accumulation, world in product((1, 3), (1, 2), (1, 4)):
        assert plan(10, micro, accumulation, world).units_per_step == micro * accumulation * world
