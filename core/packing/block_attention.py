"""Attention within one block of segments (see `segments`), forward and backward, on a processor.

Short keys are attended to by plain matrix products, whose weights are kept: the flash kernel's loops over tiles cost
more there than what they compute. Long ones go through the flash kernel, which keeps no square. Both compute in the
operands' dtype, and write into the layout of all blocks (see `arranged`).
"""

from __future__ import annotations

import torch
from torch.nn import functional

from core.packing.arranged import Lines

FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend(
    lines: Lines,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    output: torch.Tensor,
) -> torch.Tensor:
    """query [count, heads, length, d], key and value [count, kv heads, a + length, d]; the result goes to `output`,
    shaped like the query but with the values' width. Returns what the backward pass needs of it."""
    if not lines.short:
        q, k, v = _alike_in_width(query, *_repeated(query, key, value))
        result, kept = FLASH(q, k, v, 0.0, lines.mask is None, attn_mask=lines.mask, scale=scaling)
        output.copy_(result[..., : output.shape[-1]])
        normaliser: torch.Tensor = kept
        return normaliser
    assert lines.mask is not None
    keys = key.flatten(0, 1)
    scores = torch.baddbmm(lines.mask, _grouped(query, keys), keys.transpose(1, 2), alpha=scaling)
    weights = torch.softmax(scores, -1)
    torch.bmm(weights, value.flatten(0, 1), out=_grouped(output, keys))
    return weights


def attend_backward(
    lines: Lines,
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    kept: torch.Tensor,
    scaling: float,
    found: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    """The gradients of query, key and value go to `found`, shaped like these; kept: what `attend` returned."""
    if not lines.short:
        operands = _alike_in_width(grad, query, *_repeated(query, key, value), output)
        gradients = FLASH_BACKWARD(*operands, kept, 0.0, lines.mask is None, attn_mask=lines.mask, scale=scaling)
        for own, wide in zip(found, gradients, strict=True):
            gradient = wide[..., : own.shape[-1]]
            own.copy_(gradient if own.shape == gradient.shape else gradient.unflatten(1, (own.shape[1], -1)).sum(2))
        return
    keys, values = key.flatten(0, 1), value.flatten(0, 1)
    of_query, of_key, of_value = (_grouped(states, keys) for states in found)
    of_output, lines_of_query = _grouped(grad, keys), _grouped(query, keys)
    torch.bmm(kept.transpose(1, 2), of_output, out=of_value)
    of_weights = torch.bmm(of_output, values.transpose(1, 2))
    of_scores = torch._softmax_backward_data(of_weights, kept, -1, kept.dtype)
    torch.baddbmm(of_key, of_scores.transpose(1, 2), lines_of_query, beta=0, alpha=scaling, out=of_key)
    torch.baddbmm(of_query, of_scores, keys, beta=0, alpha=scaling, out=of_query)


def _grouped(states: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """[count, heads, length, d] as [count * kv heads, groups * length, d]; a view."""
    return states.view(len(keys), -1, states.shape[-1])


def _alike_in_width(*states: torch.Tensor) -> list[torch.Tensor]:
    """The states [..., d] with zeros up to the widest: the flash kernel takes no values of another width than keys."""
    widest = max(one.shape[-1] for one in states)
    return [functional.pad(one, (0, widest - one.shape[-1])) if one.shape[-1] < widest else one for one in states]


def _repeated(query: torch.Tensor, *of_keys: torch.Tensor) -> tuple[torch.Tensor, ...]:
    groups = query.shape[1] // of_keys[0].shape[1]
    return tuple(states.repeat_interleave(groups, 1) if groups > 1 else states for states in of_keys)
