"""Attention within one block of segments (see `segments`), forward and backward, on a processor.

Short keys are attended to by plain matrix products, whose weights are kept: the flash kernel's loops over tiles cost
more there than what they compute. Long ones go through the flash kernel, which keeps no square. Both compute in the
operands' dtype; heads that share a key meet it in one product.
"""

from __future__ import annotations

import torch

from core.packing.segments import Block

SHORT = 160  # keys up to which plain products are faster
FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

Tensors = tuple[torch.Tensor, ...]


def attend(
    block: Block, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """query [count, length, heads, d], key and value [count, kv heads, a + length, d]; returns the result, shaped like
    the query but with the values' width, and what the backward pass needs of it."""
    kv_heads, keys = key.shape[1:3]
    groups = query.shape[2] // kv_heads
    if keys > SHORT:
        k, v = (states.repeat_interleave(groups, 1) if groups > 1 else states for states in (key, value))
        causal, mask = block.mask is None, _added(block, query)
        output, normaliser = FLASH(query.transpose(1, 2), k, v, 0.0, causal, attn_mask=mask, scale=scaling)
        return output.transpose(1, 2), normaliser
    mask = _added(block, query, whole=True)
    assert mask is not None
    mask = mask[0].repeat_interleave(groups, 1)
    scores = torch.baddbmm(mask, _grouped(query, kv_heads), key.flatten(0, 1).transpose(1, 2), alpha=scaling)
    weights = torch.softmax(scores, -1)
    return _ungrouped(torch.bmm(weights, value.flatten(0, 1)), query), weights


def attend_backward(
    block: Block,
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    kept: torch.Tensor,
    scaling: float,
) -> Tensors:
    """The gradients of query, key and value, shaped like these; `output`, `kept`: what `attend` returned."""
    kv_heads = key.shape[1]
    groups = query.shape[2] // kv_heads
    if key.shape[2] > SHORT:
        k, v = (states.repeat_interleave(groups, 1) if groups > 1 else states for states in (key, value))
        of_query, *of_keys = FLASH_BACKWARD(
            grad.transpose(1, 2), query.transpose(1, 2), k, v, output.transpose(1, 2), kept,
            0.0, block.mask is None, attn_mask=_added(block, query), scale=scaling,
        )  # fmt: skip
        summed = [of.unflatten(1, (-1, groups)).sum(2) if groups > 1 else of for of in of_keys]
        return of_query.transpose(1, 2), summed[0], summed[1]
    grad, lines = _grouped(grad, kv_heads), _grouped(query, kv_heads)
    of_value = torch.bmm(kept.transpose(1, 2), grad)
    of_weights = torch.bmm(grad, value.flatten(0, 1).transpose(1, 2))
    of_scores = torch._softmax_backward_data(of_weights, kept, -1, kept.dtype)
    of_key = torch.bmm(of_scores.transpose(1, 2), lines).mul_(scaling)
    of_query = torch.bmm(of_scores, key.flatten(0, 1)).mul_(scaling)
    return _ungrouped(of_query, query), of_key.view_as(key), of_value.view_as(value)


def _grouped(states: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """[count, length, heads, d] as [count * kv heads, length * groups, d]: the heads that share a key side by side."""
    count, length, heads, width = states.shape
    grouped = states.reshape(count, length, kv_heads, heads // kv_heads, width).transpose(1, 2)
    return grouped.reshape(count * kv_heads, -1, width)


def _ungrouped(states: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    count, length, heads, _ = like.shape
    rows = states.view(count, -1, length, heads * count // len(states), states.shape[-1]).transpose(1, 2)
    return rows.reshape(count, length, heads, states.shape[-1])


def _added(block: Block, like: torch.Tensor, *, whole: bool = False) -> torch.Tensor | None:
    """What is added to the scores of a block; nothing where plain causal attention is right, unless `whole`."""
    seen = block.mask
    if seen is None:
        if not whole:
            return None
        seen = torch.ones(1, 1, block.length, block.length, dtype=torch.bool, device=like.device).tril_()
    return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill_(seen.logical_not(), -torch.inf)
