"""What a training would compute, said beforehand: for the planner, and for the choice of a micro batch."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from itertools import islice
from typing import Any

import torch

from core import Data, Plan, Workload
from core.kernels import fuse_layers
from core.packing import register_segments, supports_isolated_attention, unwrapped

from .arguments import total_steps
from .batches import BatchPlan, MicroBatch, Source, UnitRows
from .flash import planned_sharing
from .loss import Head, summed_loss
from .packed import Layout, on_cpu, wanted_layout

MOST_STEPS = 4000  # optimizer steps looked at for the heaviest micro batch
CANDIDATES = 6  # the longest micro batches when padded; those are laid out
AVERAGED = 8  # micro batches, spread over those steps, whose tokens give the average


def sft_workload(plan: Plan, model: Any, data: Data, ranks: int) -> Workload:
    """The heaviest micro batches of a run of `plan` on `ranks` processes, and how much a step computes."""
    from .training import training_source  # which, for its part, asks for workloads

    layout = planned_sharing(plan, model, data, planned_layout(plan, model))
    with redirect_stdout(StringIO()):  # what the run says of its packing is not the planner's to say
        source = training_source(plan, model, replace(data, stream=None), layout)
    batches = replace(source.plan, world_size=ranks)
    whole = not (plan.recipe["fsdp"] or plan.recipe["deepspeed"])
    if whole:
        fuse_layers(model, norms=on_cpu(model))
    measured = _measured(source, batches)
    return Workload(
        batches=measured.heaviest,
        loss=lambda shape, batch: summed_loss(shape, batch, _head(shape)),
        steps=total_steps(plan, batches),
        computed_tokens=measured.computed * batches.accumulation * ranks,
        trained_tokens=measured.trained * batches.accumulation * ranks,
        accumulation=batches.accumulation,
        parts=measured.parts,
    )


def planned_layout(plan: Plan, model: Any) -> Layout:
    """The layout that the run will choose, as far as the configuration tells; the model gets the attention it needs."""
    inner = unwrapped(model)
    attention = inner.config._attn_implementation
    if plan.shape_for == "cuda":  # a shape has an attention that knows shapes, whatever the run will have
        attention = plan.recipe["attn_implementation"] or attention
    wanted = wanted_layout(plan.recipe, attention)
    works, _ = supports_isolated_attention(inner.config, "sdpa")
    if not works:
        return Layout()
    apart = (wanted.bins or wanted.share) and on_cpu(model) and not plan.recipe["dataloader_num_workers"]
    if apart and inner.config._attn_implementation == "sdpa":
        inner.set_attn_implementation(register_segments())
    return wanted


def heaviest_first(batches: BatchPlan) -> list[MicroBatch]:
    """The micro batches that are longest when padded, of all ranks, over the run's first steps."""
    return heapq.nlargest(
        CANDIDATES, islice(_micro_batches(batches), MOST_STEPS), key=lambda batch: _size(batches, batch)
    )


def _micro_batches(batches: BatchPlan) -> Iterator[MicroBatch]:
    order = batches.order(0)
    for number in range(batches.steps_per_epoch):
        for ranks in batches.step(order, number):
            yield from (batch for batch in ranks if batch.counted)


def _size(batches: BatchPlan, batch: MicroBatch) -> tuple[int, tuple[int, ...]]:
    return len(batch.units) * max(batches.lengths[unit] for unit in batch.units), batch.units


@dataclass(frozen=True)
class Measured:
    """heaviest: the parts of micro batches with most places and with most targets. computed, trained: mean places and
    targets of a micro batch. parts: the most of one."""

    heaviest: list[Mapping[str, Any]]
    computed: float
    trained: float
    parts: int


def _measured(source: Source, batches: BatchPlan) -> Measured:
    units = UnitRows(source.dataset, batches)

    def made(batch: MicroBatch) -> list[Mapping[str, Any]]:
        laid_out: Any = source.collate(units.__getitems__(batch))
        return list(laid_out.get("parts", [laid_out]))

    everything = list(islice(_micro_batches(batches), MOST_STEPS))
    spread = [made(batch) for batch in everything[:: max(1, len(everything) // AVERAGED)][:AVERAGED]]
    laid_out = [made(batch) for batch in heaviest_first(batches)] + spread
    parts = [part for batch in laid_out for part in batch]
    widest = max(parts, key=lambda part: part["input_ids"].numel())
    most = max(parts, key=lambda part: len(part["target_ids"]))
    return Measured(
        [widest] if most is widest else [widest, most],
        sum(part["input_ids"].numel() for batch in spread for part in batch) / len(spread),
        sum(len(part["target_ids"]) for batch in spread for part in batch) / len(spread),
        max(len(batch) for batch in laid_out),
    )


def _head(model: Any) -> Head:
    output = unwrapped(model).get_output_embeddings()
    return Head(positions=True, chunked=isinstance(output, torch.nn.Linear) and "forward" not in vars(output))
