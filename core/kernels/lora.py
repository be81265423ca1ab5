"""A linear layer and its low-rank update in one step: no pass over the output for scaling or adding, none kept."""

from __future__ import annotations

import functools
from typing import Any

import torch


class LoraLinear(torch.autograd.Function):
    """`x W' + b + s (x A') B'` for a frozen W, in `dtype`. Keeps x and `x A'`, and nothing of the output.

    The gradients of A and B are formed from those two (as peft's layer would have it, from the same products). A W that
    is packed into 4 bits is unpacked for each product.
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
            result = torch.nn.functional.linear(rows, _dense(weight, dtype), None if bias is None else bias.to(dtype))
            narrow = rows @ a.t()
            result.addmm_(narrow, b.t(), alpha=scaling)
        ctx.save_for_backward(rows, a, b, narrow)
        ctx.weight = weight  # as it is: a saved tensor would come back without what tells how it is packed
        ctx.scaling, ctx.shape, ctx.dtypes = scaling, x.shape, (x.dtype, down.dtype, up.dtype)
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, a, b, narrow = ctx.saved_tensors
        x_type, down_type, up_type = ctx.dtypes
        with torch.autocast(rows.device.type, enabled=False):
            grad = grads[0].reshape(len(rows), -1).to(rows.dtype)
            grad_narrow = grad @ b
            grad_x = None  # scaled within the products, or in the gradients' own dtype: one rounding fewer
            if ctx.needs_input_grad[0]:
                dense = _dense(ctx.weight, rows.dtype)
                grad_x = (grad @ dense).addmm_(grad_narrow, a, alpha=ctx.scaling).view(ctx.shape).to(x_type)
                del dense  # 470 MB of a 70B model's widest layer
            grad_down = (grad_narrow.t() @ rows).to(down_type)
            grad_down *= ctx.scaling
            grad_up = (grad.t() @ narrow).to(up_type)
            grad_up *= ctx.scaling
        return grad_x, None, None, grad_down, grad_up, None, None


def _dense(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The weight [out, in] in `dtype`; one packed by bitsandbytes is unpacked."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight.to(dtype)
    if weight.is_meta:  # what the planner walks through has shapes alone
        return weight.new_empty(tuple(state.shape), dtype=dtype)
    from bitsandbytes.functional import dequantize_4bit

    dense: torch.Tensor = dequantize_4bit(weight.data, state)
    return dense.to(dtype)


def fuse_lora(model: torch.nn.Module) -> int:
    """Let the LoRA layers of `model` that are of the plain kind train through `LoraLinear`; returns how many.

    Only while gradients are recorded: scoring and the view of the base stay peft's own.
    """
    from peft.tuners.lora.layer import Linear

    fused = 0
    for layer in model.modules():
        # peft's module of layers on packed weights asks for bitsandbytes when it is imported
        packed = type(layer).__name__ == "Linear4bit" and type(layer).__module__ == "peft.tuners.lora.bnb"
        if (packed or isinstance(layer, Linear)) and _plain(layer):
            layer.forward = functools.partial(_forward, layer, layer.forward)  # type: ignore[method-assign]
            fused += 1
    return fused


def _plain(layer: Any) -> bool:
    """A frozen linear layer, packed into 4 bits or not, under one adapter without dropout, bias or a variant (DoRA)."""
    base = layer.base_layer
    plain = type(base) is torch.nn.Linear or in_four_bits(base)
    if not plain or base.weight.requires_grad or len(layer.lora_A) != 1 or getattr(layer, "fan_in_fan_out", False):
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


def in_four_bits(layer: Any) -> bool:
    """Whether a layer is bitsandbytes' of 4 bits, or the planner's stand-in for one."""
    kind = type(layer)
    packed = kind.__module__.startswith("bitsandbytes.") and kind.__name__ == "Linear4bit"
    stands_in = getattr(layer, "packed_bits", None) == 4
    return (packed or stands_in) and getattr(layer.weight, "quant_state", None) is not None


def _forward(layer: Any, otherwise: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    usual = torch.is_grad_enabled() and not layer.disable_adapters and not layer.merged
    if not usual or args or kwargs or layer.active_adapters != list(layer.lora_A):
        plain: torch.Tensor = otherwise(x, *args, **kwargs)
        return plain
    (name,) = layer.active_adapters
    base, kind = layer.base_layer, x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else _computes_in(base, x)
    if in_four_bits(base) and getattr(base, "compute_dtype", None) not in (None, dtype):
        left: torch.Tensor = otherwise(x)  # a format of the recipe's own choice, which is that of the product alone
        return left
    result: torch.Tensor = LoraLinear.apply(  # type: ignore[no-untyped-call]
        x, base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name], dtype
    )
    return result


def _computes_in(base: Any, x: torch.Tensor) -> torch.dtype:
    """The format that a base layer takes and gives by itself."""
    dtype: torch.dtype = x.dtype if in_four_bits(base) else base.weight.dtype
    return dtype
