"""What a training would compute, said beforehand: for the planner, and for the choice of a micro batch."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from itertools import islice
from typing import Any

import torch

from core import Data, Plan, Workload
from core.packing import supports_isolated_attention, unwrapped

from .arguments import total_steps
from .batches import BatchPlan, MicroBatch, UnitRows
from .loss import Head, summed_loss
from .packed import Layout
from .trainer import Source
from .training import training_source

MOST_STEPS = 4000  # optimizer steps looked at for the heaviest micro batch
CANDIDATES = 12  # the longest micro batches when padded; those are laid out
AVERAGED = 24  # micro batches, spread over those steps, whose tokens give the average


def sft_workload(plan: Plan, model: Any, data: Data, ranks: int) -> Workload:
    """The heaviest micro batches of a run of `plan` on `ranks` processes, and how much a step computes."""
    layout = planned_layout(plan, model)
    with redirect_stdout(StringIO()):  # what the run says of its packing is not the planner's to say
        source = training_source(plan, model, data, layout)
    batches = replace(source.plan, world_size=ranks)
    heaviest, computed, trained = _measured(source, batches)
    return Workload(
        batches=heaviest,
        loss=lambda shape, batch: summed_loss(shape, batch, _head(shape)),
        steps=total_steps(plan, batches),
        computed_tokens=computed * batches.accumulation * ranks,
        trained_tokens=trained * batches.accumulation * ranks,
        accumulation=batches.accumulation,
    )


def planned_layout(plan: Plan, model: Any) -> Layout:
    """The layout that the run will choose, as far as the configuration tells."""
    wanted = Layout(bins=bool(plan.recipe["sample_packing"]), share=plan.recipe["share_prefixes"] in ("auto", True))
    works, _ = supports_isolated_attention(unwrapped(model).config, "sdpa")
    return wanted if works else Layout()


def heaviest_first(batches: BatchPlan) -> list[MicroBatch]:
    """The micro batches of one rank that are longest when padded, over the run's first steps."""
    return heapq.nlargest(
        CANDIDATES, islice(_micro_batches(batches), MOST_STEPS), key=lambda batch: _size(batches, batch)
    )


def _micro_batches(batches: BatchPlan) -> Iterator[MicroBatch]:
    order = batches.order(0)
    for number in range(batches.steps_per_epoch):
        for ranks in batches.step(order, number):
            yield ranks[0]


def _size(batches: BatchPlan, batch: MicroBatch) -> tuple[int, tuple[int, ...]]:
    return len(batch.units) * max(batches.lengths[unit] for unit in batch.units), batch.units


def _measured(source: Source, batches: BatchPlan) -> tuple[list[Mapping[str, Any]], float, float]:
    """(the micro batches with most places and with most targets, mean places and targets of a micro batch)."""
    units = UnitRows(source.dataset, batches)

    def made(batch: MicroBatch) -> dict[str, torch.Tensor]:
        return source.collate(units.__getitems__(batch))

    long = [made(batch) for batch in heaviest_first(batches)]
    widest = max(long, key=lambda batch: batch["input_ids"].numel())
    most = max(long, key=lambda batch: len(batch["target_ids"]))
    everything = list(islice(_micro_batches(batches), MOST_STEPS))
    spread = [made(batch) for batch in everything[:: max(1, len(everything) // AVERAGED)][:AVERAGED]]
    computed = sum(batch["input_ids"].numel() for batch in spread) / len(spread)
    trained = sum(len(batch["target_ids"]) for batch in spread) / len(spread)
    return [widest] if most is widest else [widest, most], computed, trained


def _head(model: Any) -> Head:
    output = unwrapped(model).get_output_embeddings()
    return Head(positions=True, chunked=isinstance(output, torch.nn.Linear) and "forward" not in vars(output))
