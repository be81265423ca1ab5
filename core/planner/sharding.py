"""What each of several ranks holds, by how they share the model. Arithmetic on stated rules, not measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Strategy = Literal["ddp", "fsdp", "zero3"]
STRATEGIES: tuple[Strategy, ...] = ("ddp", "fsdp", "zero3")
LIVE_PARAMETERS = 10**9  # DeepSpeed's own default for stage3_max_live_parameters


@dataclass(frozen=True)
class Held:
    """Bytes that do not depend on the batch. layer: the largest decoder layer; root: what is in no layer.
    layer_gradients: what of
    it trains. largest: the largest tensor that trains. parameters: how many numbers the weights are."""

    weights: float
    gradients: float
    optimizer: float
    layer: float = 0.0
    root: float = 0.0
    layer_gradients: float = 0.0
    largest: float = 0.0
    parameters: int = 1

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
        if strategy == "fsdp":
            return part, min(self.weights, self.root + 2 * self.layer) + self.layer_gradients
        live = min(self.weights, LIVE_PARAMETERS * self.weights / max(1, self.parameters))
        return part, live + self.layer_gradients


def strategy_of(recipe: Any) -> Strategy:
    """The strategy that the recipe's keys name."""
    if recipe["deepspeed"]:
        stage = 3
        if isinstance(recipe["deepspeed"], Mapping):
            stage = (recipe["deepspeed"].get("zero_optimization") or {}).get("stage", 3)
        return "zero3" if stage == 3 else "ddp"
    return "fsdp" if recipe["fsdp"] or recipe["fsdp_config"] else "ddp"
