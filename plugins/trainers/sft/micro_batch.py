"""`micro_batch_size: auto`: as many rows at once as there is room for, with as many rows in a step as before."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from core import Data, Plan, UserError, Workload
from core.console import say, say_error
from core.memory import is_out_of_memory
from core.models.placement import sharded
from core.planner.advice import advice_at_one_row
from core.planner.approaches import Approach, with_values
from core.planner.device import Device, process_bytes, this_device
from core.planner.estimate import estimate
from core.planner.sample import Sample
from core.planner.shapes import NoShapes, as_no_shapes
from core.processes import gather_objects

from .workload import sft_workload

AUTO = "auto"
USUAL = 4  # rows that a micro batch is taken to have where nothing else says how many a step holds


def rows_of_a_step(plan: Plan) -> int:
    """Rows per rank and optimizer step: `batch_size`, else 4 × `gradient_accumulation_steps`."""
    recipe = plan.recipe
    return int(recipe["batch_size"] or USUAL * (recipe["gradient_accumulation_steps"] or 1))


def settled(plan: Plan, model: Any, data: Data) -> tuple[Plan, Mapping[str, int] | None]:
    """`plan` with a number in place of `auto`, and the keys that were settled; as it is where the recipe has a number.

    The planner names the largest divisor of the step's rows that fits; a forward and backward pass of the heaviest
    micro batch tries it. Raises `UserError` where one row does not fit. Every rank ends with the same.
    """
    if plan.recipe["micro_batch_size"] != AUTO:
        return plan, None
    rows = rows_of_a_step(plan)
    sizes = [size for size in range(rows, 0, -1) if rows % size == 0]
    size = min(gather_objects([_largest_planned(plan, model, data, sizes)]))
    if not sharded() and not plan.recipe["deepspeed"]:
        size = min(gather_objects([_largest_tried(plan, model, data, [s for s in sizes if s <= size])]))
    if not size:
        raise UserError(
            "not even one row at a time fits",
            help=advice_at_one_row(with_division(plan, {"micro_batch_size": 1}), data),
        )
    keys = {"micro_batch_size": size, "gradient_accumulation_steps": rows // size}
    say(
        f"micro_batch_size: auto: {size} at a time, {rows // size} times accumulated ({rows} a step and process, "
        "whatever the division)"
    )
    return with_division(plan, keys), keys


def with_division(plan: Plan, keys: Mapping[str, int]) -> Plan:
    """`plan` as if its recipe had these numbers."""
    return replace(plan, recipe=replace(plan.recipe, values={**plan.recipe.values, **keys}))


def _largest_planned(plan: Plan, model: Any, data: Data, sizes: list[int]) -> int:
    """The largest size whose estimate fits; the smallest where none does, for the trial to judge."""
    device = this_device()
    if device.kind == "cpu":
        held = sum(parameter.untyped_storage().nbytes() for parameter in model.parameters())
        device = Device("cpu", device.memory, max(0.0, process_bytes() - held))
    sample = Sample(data, True, "")
    for size in sizes[:-1]:
        keys = {"micro_batch_size": size, "gradient_accumulation_steps": sizes[0] // size}
        try:
            with as_no_shapes():
                fits = estimate(Approach("", with_values(plan, keys), True), sample, device).fits
        except NoShapes as error:
            _say_unplanned(error)
            return sizes[0]
        if fits:
            return size
    return sizes[-1]


def _say_unplanned(error: NoShapes) -> None:
    """Why sizes are tried without a plan; a mistake of ours or of a plugin with its traceback."""
    if not error.mistake:
        unplanned = f"this cannot be laid out from shapes alone ({error.reason})"
        say(f"micro_batch_size: auto: {unplanned}; sizes are tried instead, the largest first")
        return
    say_error("".join(traceback.format_exception(error.__cause__ or error)).rstrip())
    say(
        f"warning: micro_batch_size: auto: planning failed ({error.reason}); sizes are tried instead, the largest "
        "first. It is a mistake in tunesmith or in a plugin: please report it with the traceback above"
    )


def _largest_tried(plan: Plan, model: Any, data: Data, sizes: list[int]) -> int:
    """The first of `sizes` whose heaviest micro batch can be computed; 0 where none can."""
    for size in sizes:
        keys = {"micro_batch_size": size, "gradient_accumulation_steps": sizes[0] // size or 1}
        work = sft_workload(with_division(plan, keys), model, data, 1)
        if _computes(model, work):
            return size
    return 0


def _computes(model: Any, work: Workload) -> bool:
    """Whether there is room for a forward and backward pass of the heaviest batches; leaves no trace of them."""
    training = model.training
    model.train()
    device = next(model.parameters()).device
    try:
        with torch.random.fork_rng():
            for batch in work.batches:
                moved = {name: _moved(value, device) for name, value in batch.items()}
                work.loss(model, moved).backward()
        return True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    finally:
        model.zero_grad()
        model.train(training)
        gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Mapping):
        return {name: _moved(entry, device) for name, entry in value.items()}
    return value if device.type == "cpu" else value.to(device)
