"""Layers that train with fewer passes over memory than the libraries' own, and the same arithmetic."""

from __future__ import annotations

from core.kernels.lora import fuse_lora

__all__ = ["fuse_lora"]
