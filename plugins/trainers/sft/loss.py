"""The loss on trained tokens alone: logits are computed only where a token is to be predicted, in chunks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from core.packing import (
    logit_transform,
    probe_chunked_head,
    target_hidden,
    target_logits,
    trained_token_loss,
    unwrapped,
)


@dataclass(frozen=True)
class Head:
    """How logits are had from a model. positions: its forward takes `position_ids`. chunked: its output head may be
    called apart from it (not where its weights are sharded, or the model compiled). mixed: computed in bfloat16, as the
    frozen weights on this processor are held, though what trains is held in float32."""

    positions: bool = True
    chunked: bool = False
    mixed: bool = False


def head_of(model: Any, *, chunked: bool = False) -> Head:
    """What `model` (wrapped or not) offers. chunked: whether the setting allows it."""
    inner = unwrapped(model)
    positions = "position_ids" in inspect.signature(inner.forward).parameters
    output = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
    chunked = chunked and isinstance(output, torch.nn.Linear) and "forward" not in vars(output)
    return Head(positions, chunked=chunked and probe_chunked_head(model)[0], mixed=_mixed_on_cpu(model))


def _mixed_on_cpu(model: Any) -> bool:
    """Elsewhere, the key `bf16` lets accelerate see to it."""
    held = {(p.device.type, p.dtype, p.requires_grad) for p in model.parameters()}
    return ("cpu", torch.bfloat16, False) in held and ("cpu", torch.float32, True) in held


def summed_loss(model: Any, batch: Mapping[str, Any], head: Head) -> torch.Tensor:
    """Cross-entropy in float32, summed (in nats) over the targets of `batch`; a scalar that carries gradients."""
    if "parts" in batch:
        return torch.stack([summed_loss(model, part, head) for part in batch["parts"]]).sum()
    if head.mixed and not torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return summed_loss(model, batch, head)
    if not head.positions:
        batch = {name: value for name, value in batch.items() if name != "position_ids"}
    inner = unwrapped(model)
    if head.chunked:
        output = inner.get_output_embeddings()
        scale, softcap = logit_transform(inner.config)
        hidden = target_hidden(model, batch).to(output.weight.dtype)
        return trained_token_loss(hidden, output, batch["target_ids"], scale=scale, softcap=softcap)
    return functional.cross_entropy(target_logits(model, batch).float(), batch["target_ids"], reduction="sum")
