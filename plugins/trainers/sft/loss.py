"""The loss on trained tokens alone: logits are computed only where a token is to be predicted."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional


def forward_options(model: Any) -> frozenset[str]:
    """Which of the optional arguments that the loss can use the forward of `model` names (PEFT's wrapper taken off)."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = inspect.signature(inner.forward).parameters
    return frozenset(name for name in ("position_ids", "logits_to_keep", "use_cache") if name in names)


def summed_loss(model: Any, batch: Mapping[str, torch.Tensor], options: frozenset[str]) -> torch.Tensor:
    """Cross-entropy in float32, summed (in nats) over the targets of `batch`; a scalar that carries gradients."""
    logits = target_logits(model, batch, options)
    return functional.cross_entropy(logits.float(), batch["target_ids"], reduction="sum")


def target_logits(model: Any, batch: Mapping[str, torch.Tensor], options: frozenset[str]) -> torch.Tensor:
    """Logits [n, vocabulary] for the n `target_positions` of `batch`, in their order.

    With `logits_to_keep` the head runs on the columns in which any line has a target, not on the whole batch.
    """
    length = batch["input_ids"].shape[1]
    arguments: dict[str, Any] = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if "position_ids" in options and "position_ids" in batch:
        arguments["position_ids"] = batch["position_ids"]
    if "use_cache" in options:
        arguments["use_cache"] = False
    rows = torch.div(batch["target_positions"], length, rounding_mode="floor")
    columns = batch["target_positions"] - rows * length
    if "logits_to_keep" not in options:
        full: torch.Tensor = model(**arguments).logits
        return full[rows, columns]
    # one column at least: a batch without targets must still pass through the whole model, as other ranks wait for it
    kept = torch.unique(columns) if len(columns) else columns.new_zeros(1)
    logits: torch.Tensor = model(**arguments, logits_to_keep=kept).logits
    return logits[rows, torch.searchsorted(kept, columns)]
