"""A linear layer and its low-rank update in one step: no pass over the output for scaling or adding, none kept."""

from __future__ import annotations

import functools
from typing import Any

import torch


class LoraLinear(torch.autograd.Function):
    """`x W' + b + s (x A') B'` for a frozen W, in `dtype`. Keeps x and `x A'`, and nothing of the output.

    The gradients of A and B are formed from those two (as peft's layer would have it, from the same products).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scaling: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, x.shape[-1]).to(dtype)
            a, b = down.to(dtype), up.to(dtype)
            result = torch.nn.functional.linear(rows, weight.to(dtype), None if bias is None else bias.to(dtype))
            narrow = rows @ a.t()
            result.addmm_(narrow, b.t(), alpha=scaling)
        ctx.save_for_backward(rows, weight, a, b, narrow)
        ctx.scaling, ctx.shape, ctx.dtypes = scaling, x.shape, (x.dtype, down.dtype, up.dtype)
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight, a, b, narrow = ctx.saved_tensors
        x_type, down_type, up_type = ctx.dtypes
        with torch.autocast(rows.device.type, enabled=False):
            grad = grads[0].reshape(-1, weight.shape[0]).to(rows.dtype)
            grad_narrow = grad @ b
            grad_x = None  # scaled within the products, or in the gradients' own dtype: one rounding fewer
            if ctx.needs_input_grad[0]:
                grad_x = (
                    (grad @ weight.to(rows.dtype)).addmm_(grad_narrow, a, alpha=ctx.scaling).view(ctx.shape).to(x_type)
                )
            grad_down = (grad_narrow.t() @ rows).to(down_type)
            grad_down *= ctx.scaling
            grad_up = (grad.t() @ narrow).to(up_type)
            grad_up *= ctx.scaling
        return grad_x, None, None, grad_down, grad_up, None, None


def fuse_lora(model: torch.nn.Module) -> int:
    """Let the LoRA layers of `model` that are of the plain kind train through `LoraLinear`; returns how many.

    Only while gradients are recorded: scoring and the view of the base stay peft's own.
    """
    from peft.tuners.lora.layer import Linear

    fused = 0
    for layer in model.modules():
        if isinstance(layer, Linear) and _plain(layer):
            layer.forward = functools.partial(_forward, layer, layer.forward)  # type: ignore[method-assign]
            fused += 1
    return fused


def _plain(layer: Any) -> bool:
    """A frozen `torch.nn.Linear` under one adapter without dropout, bias or a variant such as DoRA."""
    base = layer.base_layer
    if type(base) is not torch.nn.Linear or base.weight.requires_grad or len(layer.lora_A) != 1 or layer.fan_in_fan_out:
        return False
    (name,) = layer.lora_A
    return (
        "forward" not in vars(layer)
        and not base._forward_hooks
        and (base.bias is None or not base.bias.requires_grad)
        and isinstance(layer.lora_dropout[name], torch.nn.Identity)
        and layer.lora_B[name].bias is None
        and not layer.lora_variant
    )


def _forward(layer: Any, otherwise: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    usual = torch.is_grad_enabled() and not layer.disable_adapters and not layer.merged
    if not usual or args or kwargs or layer.active_adapters != list(layer.lora_A):
        plain: torch.Tensor = otherwise(x, *args, **kwargs)
        return plain
    (name,) = layer.active_adapters
    base, kind = layer.base_layer, x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else base.weight.dtype
    result: torch.Tensor = LoraLinear.apply(  # type: ignore[no-untyped-call]
        x, base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name], dtype
    )
    return result
