"""In which number format the weights are held."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from core.errors import Problem, RecipeError
from core.models.placement import on_cuda
from core.types import Plan

if TYPE_CHECKING:
    import torch


def weight_dtype(plan: Plan, *, frozen: bool) -> tuple[torch.dtype, str]:
    """The dtype of the base weights, and why.

    `bf16: auto` (the default) takes bfloat16 on a CUDA device that computes in it, and on a processor that computes
    faster in it where the weights are `frozen` (those that train would lose small updates); else float32. float16 is
    only for `frozen` weights: its gradients cannot be unscaled, so weights that train under `fp16` are held in float32.
    Raises `RecipeError` for `bf16: true` on a CUDA device that cannot compute in bfloat16.
    """
    import torch

    bf16, fp16 = plan.recipe["bf16"], plan.recipe["fp16"]
    cuda = plan.shape_for == "cuda" if plan.shape_for else on_cuda()
    bf16_works = not cuda or plan.shape_for is not None or torch.cuda.is_bf16_supported(including_emulation=False)
    if bf16 in (True, "full", "true"):
        if not bf16_works:
            raise RecipeError(
                [Problem("this GPU has no bfloat16", key=("bf16",), at="value", help="set bf16: false and fp16: true")]
            )
        return torch.bfloat16, f"bf16: {str(bf16).lower()}"
    if fp16:
        if not frozen:
            return torch.float32, "fp16 computes in half precision; weights that train stay in float32"
        return (torch.float16, "fp16: true") if cuda else (torch.float32, "fp16 has no effect without a GPU")
    if bf16 in ("auto", None) and cuda and bf16_works:
        return torch.bfloat16, "bf16: auto"
    if bf16 not in ("auto", None):
        return torch.float32, "bf16: false"
    if cuda or not frozen:
        return torch.float32, "bf16: auto, no GPU with bfloat16"
    faster, rates = _faster_on_cpu(plan)
    return (torch.bfloat16 if faster else torch.float32), f"bf16: auto, {rates}"


def _faster_on_cpu(plan: Plan) -> tuple[bool, str]:
    from core.models.config import load_config

    config = load_config(plan).get_text_config()
    width = getattr(config, "hidden_size", None) or 0
    return _agreed(width, getattr(config, "intermediate_size", None) or 4 * width)


@lru_cache
def _agreed(width: int, inner: int) -> tuple[bool, str]:
    """As rank 0 finds it, so that all ranks hold the base alike; asked of the others once, when all of them load it."""
    from core.models.cpu_speed import bf16_is_faster
    from core.processes import gather_objects

    return gather_objects([bf16_is_faster(width, inner)])[0]
