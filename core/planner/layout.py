"""Lays a recipe out on a device: all approaches, their pace, and advice where the recipe's own does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core.errors import RecipeError, UserError

if TYPE_CHECKING:
    from core.planner.advice import Advice
    from core.planner.device import Device
    from core.planner.estimate import Estimate
    from core.planner.work import Pace
    from core.types import Plan


@dataclass(frozen=True)
class Layout:
    """The whole plan. estimates: the recipe's own first. notes: what was assumed for all, what cannot be had."""

    estimates: Sequence[Estimate]
    device: Device
    ranks: int
    strategy: str
    pace: Pace
    advice: Sequence[Advice]
    notes: Sequence[str]

    def lines(self) -> list[str]:
        """The plan as text."""
        from core.planner.table import plan_lines

        made = plan_lines(self.estimates, self.device, self.ranks, self.strategy, self.pace, self.advice)
        return [*made, *(f"note: {note}" for note in self.notes)]

    def as_json(self) -> dict[str, Any]:
        """The plan for programs."""
        from core.planner.table import plan_json

        made = plan_json(self.estimates, self.device, self.ranks, self.strategy, self.pace, self.advice)
        return {**made, "notes": list(self.notes)}


def lay_out(
    plan: Plan,
    *,
    gpu_memory: float | None = None,
    ranks: int = 1,
    strategy: str | None = None,
    teraflops: float | None = None,
    price: float | None = None,
) -> Layout:
    """Lay `plan` out. gpu_memory: GiB of a GPU that is not here; else this machine's. Loads no weights.

    Raises `UserError` where the recipe's own approach cannot be built; another one's refusal becomes a note.
    """
    from core.models.loading import quiet
    from core.models.shape import token_count
    from core.planner.advice import advise
    from core.planner.approaches import approaches
    from core.planner.device import RUN_LIBRARIES, gpu_of, this_device
    from core.planner.estimate import estimate
    from core.planner.sample import sample_of
    from core.planner.sharding import STRATEGIES, left_out, strategy_of
    from core.planner.work import pace

    chosen = next((known for known in STRATEGIES if known == strategy), strategy_of(plan.recipe))
    sample = sample_of(plan)
    with quiet():
        import peft  # noqa: F401  (part of a run's process, whose size is taken next)

    device = gpu_of(gpu_memory) if gpu_memory else this_device()
    if device.kind == "cpu":
        device = replace(device, base=device.base + RUN_LIBRARIES)
    estimates, notes = [], [sample.note]
    speed = pace(device, teraflops=teraflops, price=price)
    if device.kind == "cpu" and ranks > 1:
        device = replace(device, memory=device.memory / ranks)
        if teraflops is None:
            speed = replace(speed, rate=speed.rate / ranks)
        notes.append(f"{ranks} processes share this machine's memory and cores")
    if strategy and ranks == 1:
        notes.append(f"one device shares the model with no other: --strategy {strategy} has no effect")
    notes += left_out(plan.recipe) if ranks > 1 else []
    with quiet():
        plan = replace(plan, shape_tokens=token_count(plan) if sample.tokens is None else sample.tokens)
        for approach in approaches(plan):
            try:
                estimates.append(estimate(approach, sample, device, ranks=ranks, strategy=chosen))
            except UserError as error:
                if approach.own:
                    raise
                told = error.problems[0].message if isinstance(error, RecipeError) else error.message
                notes.append(f"{approach.name} cannot be planned: {told}")
        own = estimates[0]
        advice = [] if own.fits else advise(own, plan, sample, device, ranks, chosen)
    return Layout(estimates, device, ranks, chosen, speed, advice, notes)
