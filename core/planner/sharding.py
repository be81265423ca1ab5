"""What each of several ranks holds, by how they share the model. Arithmetic on stated rules, not measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from core.check.paths import resolve_input_path

Strategy = Literal["ddp", "fsdp", "zero3"]
STRATEGIES: tuple[Strategy, ...] = ("ddp", "fsdp", "zero3")
LIVE_PARAMETERS = 10**9  # DeepSpeed's own default for stage3_max_live_parameters


@dataclass(frozen=True)
class Held:
    """Bytes that do not depend on the batch. layer: the largest decoder layer; root: what is in no layer.
    layer_gradients: what of
    it trains. largest: the largest tensor that trains. parameters: how many numbers the weights are.
    rounded: updates of weights in bfloat16 are rounded stochastically, where each rank has all of a weight.
    widened: what of the weights trains in bfloat16, and is held in float32 where weights are shared out."""

    weights: float
    gradients: float
    optimizer: float
    layer: float = 0.0
    root: float = 0.0
    layer_gradients: float = 0.0
    largest: float = 0.0
    parameters: int = 1
    rounded: bool = False
    widened: float = 0.0

    def per_rank(self, ranks: int, strategy: Strategy) -> tuple[Held, float]:
        """(what one rank holds, the buffers it needs beside that).

        ddp: everything, and once more the gradients, in the buckets that are exchanged. fsdp: a share of everything,
        the whole of the root, and of the layer at work and the one that comes next. zero3: a share, and up to
        stage3_max_live_parameters at work.
        """
        if ranks == 1:
            return self, 0.0
        if strategy == "ddp":
            return self, self.gradients
        part = Held(self.weights / ranks, self.gradients / ranks, self.optimizer / ranks, parameters=self.parameters)
        more = self.widened / ranks
        if strategy == "fsdp":
            part = replace(part, weights=part.weights + more, gradients=part.gradients + more)
            return part, min(self.weights, self.root + 2 * self.layer) + self.layer_gradients
        part = replace(part, optimizer=part.optimizer + 2 * more)  # a copy of its own, in float32
        live = min(self.weights, LIVE_PARAMETERS * self.weights / max(1, self.parameters))
        return part, live + self.layer_gradients


def strategy_of(recipe: Any) -> Strategy:
    """The strategy that the recipe's keys name. DeepSpeed's other stages are planned for as DDP."""
    if recipe["deepspeed"]:
        return "zero3" if _zero(recipe).get("stage") == 3 else "ddp"
    return "fsdp" if recipe["fsdp"] or recipe["fsdp_config"] else "ddp"


def left_out(recipe: Any) -> list[str]:
    """What the recipe says of sharing that takes memory off a device, and that is not reckoned with."""
    notes = []
    zero = _zero(recipe)
    if (stage := zero.get("stage")) in (1, 2):
        notes.append(f"DeepSpeed's stage {stage} is planned for as DDP: what it shares is not taken off")
    moved = [f"zero_optimization.{name}" for name in ("offload_optimizer", "offload_param") if zero.get(name)]
    if (recipe["fsdp_config"] or {}).get("offload_params"):
        moved.append("offload_params")
    if moved:
        notes.append(f"{' and '.join(moved)}: what is kept in host memory is planned for as if on the device")
    return notes


def _zero(recipe: Any) -> Mapping[str, Any]:
    """The `zero_optimization` of the recipe's DeepSpeed configuration; empty where there is none that can be read."""
    given = recipe["deepspeed"]
    if isinstance(given, str):
        try:
            path = resolve_input_path(given, recipe.folder_of(("deepspeed",)))
            given = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # the run refuses it, and says why
    found = given.get("zero_optimization") if isinstance(given, Mapping) else None
    return found if isinstance(found, Mapping) else {}
