"""The smallest changes that would make a recipe fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.errors import UserError
from core.planner.approaches import Approach, with_values
from core.planner.device import SPARE, Device, this_device
from core.planner.estimate import Estimate, estimate, micro_of
from core.planner.sample import Sample, shortened_to
from core.planner.shapes import NoShapes, as_no_shapes
from core.planner.sharding import Strategy, strategy_of
from core.types import Data, Plan

ENOUGH = 4  # proposals that are shown
LESS = 0.9  # of the peak planned for: what a change must stay below where memory has run out all the same
MOST_RANKS = 64


@dataclass(frozen=True)
class Advice:
    """One change that makes the recipe fit. keys: what to set; same: whether what is learnt stays the same."""

    keys: Mapping[str, Any]
    peak: float
    same: bool
    ranks: int = 1

    def __str__(self) -> str:
        said = ", ".join(f"{key}: {_yaml(value)}" for key, value in self.keys.items())
        if self.ranks > 1:
            said = f"{self.ranks} GPUs with FSDP" + (f" and {said}" if said else "")
        return f"{said} ({'same result' if self.same else 'another result'}, peak {self.peak / 2**30:.1f} GiB)"


def advise(own: Estimate, plan: Plan, sample: Sample, device: Device, ranks: int, strategy: Strategy) -> list[Advice]:
    """What would make `own` fit, the changes that leave the result alone first; empty where nothing tried does."""
    found: list[Advice] = []
    for keys, same in _changes(plan):
        try:
            changed = with_values(plan, keys)
            rows = shortened_to(sample, changed) if "sequence_len" in keys else sample
            laid = estimate(Approach("", changed, True), rows, device, ranks=ranks, strategy=strategy)
        except UserError:
            continue  # a change that does not go with the rest of the recipe is no advice
        if not laid.fits:
            continue
        if keys.get("micro_batch_size") == 1:
            keys, laid = _largest(plan, keys, laid, rows, device, ranks, strategy)
        found.append(Advice(keys, laid.highest, same))
        if len(found) == ENOUGH:
            break
    if not any(advice.same for advice in found) and device.kind == "cuda":
        found += _more_ranks(plan, sample, device, ranks)
    return found


def advice_at_one_row(plan: Plan, data: Data) -> str:
    """What would take less, for a run in which one row at a time found no room: the planner's proposals, as text."""
    from core.models.loading import quiet
    from core.processes import world_size

    ranks, strategy = world_size(), strategy_of(plan.recipe)
    plan = with_values(plan, _micro(plan, 1))
    sample, device = Sample(data, True, ""), this_device()
    if device.kind == "cpu":
        device = replace(device, base=0.0)  # the process is as large as its model has made it
    try:
        with quiet(), as_no_shapes():  # whatever it is, that memory ran out is what has to be said
            own = estimate(Approach("", plan, True), sample, device, ranks=ranks, strategy=strategy)
            tight = replace(device, memory=min(device.memory, LESS * own.highest / (1 - SPARE)))
            found = advise(own, plan, sample, tight, ranks, strategy)
    except NoShapes as error:
        return (
            f"gradient_checkpointing: true or a smaller sequence_len take less; how much is not known ({error.reason})"
        )
    if not found:
        return "no single change takes much less; a smaller model does (`tunesmith plan RECIPE` shows what would fit)"
    return "any one of these takes less: " + "; ".join(str(advice) for advice in found)


def _changes(plan: Plan) -> Iterator[tuple[dict[str, Any], bool]]:
    """Changes to try, (recipe keys, whether the result stays the same), the smaller first."""
    recipe = plan.recipe
    one = _micro(plan, 1) if micro_of(plan) > 1 else {}
    if one:
        yield one, True
    checkpointing: dict[str, Any] = {}
    if not recipe["gradient_checkpointing"]:
        checkpointing = {"gradient_checkpointing": True}
        yield checkpointing, True
    if one and checkpointing:
        yield {**checkpointing, **one}, True
    if not str(recipe["gradient_checkpointing"]).startswith("offload"):
        yield {"gradient_checkpointing": "offload", **one}, True
    if plan.adapter.name == "full" and "8bit" not in str(recipe["optimizer"]):
        yield {"optimizer": "adamw_8bit", **checkpointing, **one}, False
    if plan.adapter.name == "full":
        yield {"adapter": "lora", "lora_target_linear": True, **checkpointing, **one}, False
    if plan.adapter.name in ("full", "lora"):
        packed = {"adapter": "qlora", "load_in_4bit": True, "load_in_8bit": None}
        linear = {} if plan.adapter.name == "lora" else {"lora_target_linear": True}
        yield {**packed, **linear}, False
        yield {**packed, **linear, **checkpointing, **one}, False
    length = int(recipe["sequence_len"] or 2048)
    while length > 256:
        length //= 2
        yield {"sequence_len": length, **checkpointing, **one}, False


def _largest(
    plan: Plan, keys: dict[str, Any], least: Estimate, sample: Sample, device: Device, ranks: int, strategy: Strategy
) -> tuple[dict[str, Any], Estimate]:
    """The largest smaller micro batch that fits, where one row does."""
    best, laid = keys, least
    for size in divisors(micro_of(plan) * (plan.recipe["gradient_accumulation_steps"] or 1)):
        if not 1 < size < micro_of(plan):
            continue
        larger = {**keys, **_micro(plan, size)}
        made = estimate(Approach("", with_values(plan, larger), True), sample, device, ranks=ranks, strategy=strategy)
        if not made.fits:
            break
        best, laid = larger, made
    return best, laid


def _micro(plan: Plan, size: int) -> dict[str, Any]:
    """Keys for micro batches of `size`, with as many rows in a step as before."""
    rows = micro_of(plan) * (plan.recipe["gradient_accumulation_steps"] or 1)
    return {"micro_batch_size": size, "gradient_accumulation_steps": rows // size}


def divisors(number: int) -> list[int]:
    """All divisors of `number`, the smallest first."""
    return [size for size in range(1, number + 1) if number % size == 0]


def _more_ranks(plan: Plan, sample: Sample, device: Device, ranks: int) -> list[Advice]:
    """The fewest GPUs that share the model by FSDP and have room for it."""
    count = max(2, 2 * ranks)
    while count <= MOST_RANKS:
        laid = estimate(Approach("", plan, True), sample, device, ranks=count, strategy="fsdp")
        if laid.fits:
            return [Advice({}, laid.highest, True, ranks=count)]
        count *= 2
    return []


def _yaml(value: Any) -> str:
    return (
        {True: "true", False: "false", None: "null"}.get(value, str(value))
        if not isinstance(value, int) or isinstance(value, bool)
        else str(value)
    )
