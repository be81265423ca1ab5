"""The attention function that computes segment by segment (see `segments`)."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from core.packing.arranged import Arranged, Lines, arranged
from core.packing.block_attention import attend, attend_backward
from core.packing.segments import Segments


class SegmentAttention(torch.autograd.Function):
    """Attention of all segments: query [n, heads, d], key and value [n, kv heads, d] to [n, heads, d].

    Lays out the blocks again in the backward pass. The gradient of a shared path is summed over its continuations
    before it is added to the path's places, so that no block has a gradient of the whole length of its own. Computes in
    float32 at least: the kernels' backward passes are slow in narrow formats on a processor.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, scaling: float
    ) -> torch.Tensor:
        wide = torch.float64 if query.dtype == torch.float64 else torch.float32
        order = arranged(segments, query.shape[1], key.shape[1], wide)
        with torch.autocast(query.device.type, enabled=False):
            q, k, v = _laid_out(order, wide, query, key, value)
            result = q.new_empty(len(q), value.shape[2])
            kept = [
                attend(lines, *_of_block(lines, q, k, v), scaling, _queries(lines, result)) for lines in order.lines
            ]
            joined = result.index_select(0, order.own_queries).view(*query.shape[:2], -1).to(query.dtype)
        if len(segments.idle):
            joined[segments.idle] = 0
        ctx.save_for_backward(query, key, value, joined, *kept)
        ctx.segments, ctx.order, ctx.scaling, ctx.wide = segments, order, scaling, wide
        return joined

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, joined, *kept = ctx.saved_tensors
        segments: Segments = ctx.segments
        order: Arranged = ctx.order
        with torch.autocast(query.device.type, enabled=False):
            q, k, v = _laid_out(order, ctx.wide, query, key, value)
            grad, out = (_gathered(states, order.queries, ctx.wide) for states in (grads[0], joined))
            # a slot that pads repeats a place; its keys are unseen, and its output unused
            grad.index_fill_(0, order.padding, 0)
            found = tuple(torch.empty_like(states) for states in (q, k, v))
            for lines, of_block in zip(order.lines, kept, strict=True):
                attend_backward(
                    lines, _queries(lines, grad), *_of_block(lines, q, k, v), _queries(lines, out), of_block,
                    ctx.scaling, _of_block(lines, *found),
                )  # fmt: skip
            results = [
                states.index_select(0, own).view(like.shape)
                for states, own, like in zip(
                    found, (order.own_queries, order.own_keys, order.own_keys), (query, key, value), strict=True
                )
            ]
            for result, states in zip(results[1:], found[1:], strict=True):
                if len(order.above):
                    result.index_add_(0, order.above, torch.cat([_of_path(lines, states) for lines in order.lines]))
        if len(segments.idle):
            for result in results:
                result[segments.idle] = 0
        return (
            *(result.to(states.dtype) for result, states in zip(results, (query, key, value), strict=True)),
            None,
            None,
        )


def _gathered(states: torch.Tensor, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return states.to(dtype).reshape(-1, states.shape[-1]).index_select(0, rows)


def _laid_out(
    order: Arranged, dtype: torch.dtype, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        _gathered(query, order.queries, dtype),
        _gathered(key, order.keys, dtype),
        _gathered(value, order.keys, dtype),
    )


def _of_block(lines: Lines, *laid_out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries [count, heads, length, d], keys and values [count, kv heads, a + length, d] of a block; views."""
    query, key, value = laid_out
    return _queries(lines, query), _keys(lines, key), _keys(lines, value)


def _queries(lines: Lines, states: torch.Tensor) -> torch.Tensor:
    return states[lines.queries].view(lines.block.count, -1, lines.block.length, states.shape[-1])


def _keys(lines: Lines, states: torch.Tensor) -> torch.Tensor:
    block = lines.block
    return states[lines.keys].view(block.count, -1, len(block.above) + block.length, states.shape[-1])


def _of_path(lines: Lines, states: torch.Tensor) -> torch.Tensor:
    """[a, kv heads, d]: the gradient of a block's shared path, summed over the continuations."""
    return _keys(lines, states)[:, :, : len(lines.block.above)].sum(0).transpose(0, 1)


class Rearrange(torch.autograd.Function):
    """Rows of `source` [n, ...] in the order `order`. back: where each of the n rows went, as an order of the result;
    blank: rows of the gradient of `source` that nothing went into."""

    @staticmethod
    def forward(
        ctx: Any, source: torch.Tensor, order: torch.Tensor, back: torch.Tensor, blank: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(back, blank)
        return source.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        back, blank = ctx.saved_tensors
        grad = grads[0].index_select(0, back)
        if len(blank):
            grad[blank] = 0
        return grad, None, None, None


def segment_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers' sdpa attention: query [b, heads, n, d], key and value [b, kv heads, n, d] to [b, n, heads, d].

    attention_mask: one that carries `segments`; any other is left to sdpa.
    """
    segments: Segments | None = getattr(attention_mask, "segments", None)
    if segments is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        plain: Any = sdpa_attention_forward
        output: tuple[torch.Tensor, None] = plain(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output
    batch, heads, length, _ = query.shape
    rows = [states.transpose(1, 2).reshape(batch * length, *states.shape[1::2]) for states in (query, key, value)]
    if query.device.type in ("cpu", "meta") and not dropout:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        whole: torch.Tensor = SegmentAttention.apply(*rows, segments, scale)  # type: ignore[no-untyped-call]
        return whole.view(batch, length, heads, -1), None
    # a slot that pads repeats a place, but nothing comes back from it: its keys are unseen and its output unused
    q, k, v = (_arranged(states, segments.places, segments.slots, segments.idle) for states in rows)
    outputs = []
    for block in segments.blocks:
        cut = slice(block.start, block.start + block.count * block.length)
        own = [states[cut].view(block.count, block.length, *states.shape[1:]) for states in (q, k, v)]
        if len(block.above):
            for which in (1, 2):
                above = rows[which].index_select(0, block.above)
                own[which] = torch.cat([above.expand(block.count, *above.shape), own[which]], 1)
        attended = functional.scaled_dot_product_attention(
            own[0].transpose(1, 2),
            own[1].transpose(1, 2),
            own[2].transpose(1, 2),
            attn_mask=block.mask,
            dropout_p=dropout,
            is_causal=block.mask is None,
            scale=scaling,
            enable_gqa=heads != key.shape[1],
        )
        outputs.append(attended.transpose(1, 2).reshape(-1, heads, value.shape[-1]))
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return _arranged(joined, segments.slots, segments.places, segments.padding).view(batch, length, heads, -1), None


def _arranged(*operands: torch.Tensor) -> torch.Tensor:
    arranged: torch.Tensor = Rearrange.apply(*operands)  # type: ignore[no-untyped-call]
    return arranged
