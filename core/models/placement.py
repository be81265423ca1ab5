"""On which device this rank's weights belong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def device() -> torch.device:
    """This rank's device."""
    from accelerate import PartialState

    found: torch.device = PartialState().device
    return found


def on_cuda() -> bool:
    """Whether this rank computes on a CUDA device."""
    return device().type == "cuda"


def sharded() -> bool:
    """Whether the launcher asked for FSDP or DeepSpeed, which place the weights themselves."""
    return any(
        os.environ.get(name, "").lower() == "true" for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    )


def device_map() -> dict[str, Any] | None:
    """transformers' `device_map` for this rank's device; None where the CPU or a sharder holds the weights."""
    return None if device().type == "cpu" or sharded() else {"": device()}
