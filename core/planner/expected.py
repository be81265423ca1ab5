"""The plan of a run inside the run: what cannot fit is refused before it is loaded, and told from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.errors import Problem, RecipeError, UserError

if TYPE_CHECKING:
    from core.results import TrainResult
    from core.types import Data, Plan

RANK_KEY = "lora_r"


def refuse_impossible(plan: Plan) -> None:
    """Refuse what has no room for its weights, gradients and optimizer alone, whatever the batch.

    Models that are shared out over ranks pass; so do those whose shapes alone cannot be laid out, and it is said.
    Raises `UserError`.
    """
    from core.console import say
    from core.models.loading import quiet
    from core.models.placement import sharded
    from core.planner.device import this_device
    from core.planner.estimate import held_of
    from core.planner.shapes import NoShapes, as_no_shapes, shape_of
    from core.planner.table import size

    if sharded() or plan.recipe["deepspeed"] or plan.recipe["fsdp"] or plan.recipe["fsdp_config"]:
        return
    device = this_device()
    laid = replace(plan, shape_for=device.kind)
    try:
        with quiet(), as_no_shapes():
            model = shape_of(laid)
    except NoShapes as error:
        reason = error.reason
        say(f"note: whether the model has room is not known before it is loaded: it has no shapes alone ({reason})")
        return
    held = held_of(laid, model)
    least = device.base + held.weights + held.gradients + held.optimizer
    if least <= device.memory:
        return
    message = (
        f"this needs at least {size(least)}: {size(held.weights)} of weights, {size(held.gradients)} of gradients and "
        f"{size(held.optimizer)} for the optimizer; {'the GPU' if device.kind == 'cuda' else 'this machine'} has "
        f"{size(device.memory)}"
    )
    rank = plan.recipe[RANK_KEY] if plan.adapter.name in ("lora", "qlora") else None
    if rank and 4 * held.gradients > held.weights:
        room = max(0.0, device.room - device.base - (held.weights - held.gradients))
        largest = int(rank * room / max(1.0, 2 * held.gradients + held.optimizer))
        help = f"with this model and memory, ranks up to about {largest:,} fit; 8 to 64 are usual"
        raise RecipeError([Problem(message, key=(RANK_KEY,), at="value", help=help)])
    raise UserError(message, help="`tunesmith plan RECIPE` shows what would fit, on this machine or on another")


def with_expectation(plan: Plan, data: Data, before: float, trained: TrainResult) -> TrainResult:
    """`trained` with what was to be expected of it, worked out from shapes; says predicted beside measured memory.

    before: bytes of the process before it had a model. What cannot be laid out is said to be so; a mistake in the
    planner, too, with its traceback, for the training is done and worth more than what could have been said of it.
    """
    import traceback

    from core.console import say, say_error
    from core.planner.table import size, summary

    measured = f"peak memory: {size(trained.peak_bytes)} measured"
    try:
        values = expectation(plan, data, before, trained)
    except UserError as error:
        say(f"{measured}; it could not be predicted: {error.message}")
        return trained
    except Exception as error:
        say_error(traceback.format_exc().rstrip())
        say(
            f"{measured}; predicting it failed ({type(error).__name__}: {error}). Nothing of the training is lost. "
            "It is a mistake in tunesmith or in a plugin: please report it with the traceback above and recipe.lock.yml"
        )
        return trained
    say(summary(values))
    return replace(trained, plan=values)


def expectation(plan: Plan, data: Data, before: float, trained: TrainResult) -> Mapping[str, Any]:
    """The `plan` of run.json: bytes predicted and measured, by part, and seconds.

    The process counts on a CPU with what it was when training began: data, libraries, and what scoring left of it.
    """
    from core.models.loading import quiet
    from core.planner.approaches import Approach, with_values
    from core.planner.device import this_device
    from core.planner.estimate import estimate
    from core.planner.sample import Sample
    from core.planner.sharding import strategy_of
    from core.planner.work import pace
    from core.processes import world_size

    device = this_device()
    if device.kind == "cpu":
        device = replace(device, base=_without_weights(trained) or before)
    if trained.division:
        plan = with_values(plan, trained.division)
    ranks = world_size()
    with quiet():
        made = estimate(
            Approach(plan.adapter.name, plan, own=True),
            Sample(data, True, ""),
            device,
            ranks=ranks,
            strategy=strategy_of(plan.recipe),
        )
    peak = made.peak if device.kind == "cpu" else made.peak - device.base  # CUDA counts what PyTorch allocated
    return {
        "predicted_bytes": int(peak),
        "measured_bytes": trained.peak_bytes,
        "parts": {name: int(size) for name, size in made.parts.items() if size},
        "predicted_seconds": pace(device, teraflops=None, price=None).seconds(made.work, ranks),
        "weights_dtype": made.weights_dtype,
        "trained_dtype": made.trained_dtype,
        "micro_batch_size": made.micro_batch_size,
        "gradient_accumulation_steps": made.accumulation,
    }


def _without_weights(trained: TrainResult) -> float:
    """Bytes of the process when training began, but for its weights; 0 where the trainer did not tell."""
    if not trained.start_bytes:
        return 0.0
    weights = sum(parameter.untyped_storage().nbytes() for parameter in trained.model.parameters())
    return float(max(0, trained.start_bytes - weights))
