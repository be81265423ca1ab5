"""Layers that train with fewer passes over memory than the libraries' own, and the same arithmetic."""

from __future__ import annotations

from typing import Any

from core.kernels.lora import fuse_lora
from core.kernels.norm import fuse_norms

__all__ = ["fuse_layers", "fuse_lora", "fuse_norms"]


def fuse_layers(model: Any, *, norms: bool) -> None:
    """Let the layers of `model` that can be train in fewer passes. norms: those too, which pays on processors alone."""
    if hasattr(model, "peft_config"):
        fuse_lora(model)
    if norms:
        fuse_norms(model)
