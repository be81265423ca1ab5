"""The attention function that computes segment by segment (see `segments`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from core.packing.block_attention import attend, attend_backward
from core.packing.segments import Block, Segments


class SegmentAttention(torch.autograd.Function):
    """Attention of all segments: query [n, heads, d], key and value [n, kv heads, d] to [n, heads, d].

    Arranges the blocks again in the backward pass. The gradient of a shared path is summed over its continuations
    before it is added to the path's places, so that no block has a gradient of the whole length of its own. Computes in
    float32 at least: the kernels' backward passes are slow in narrow formats on a processor.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, scaling: float
    ) -> torch.Tensor:
        wide = torch.float64 if query.dtype == torch.float64 else torch.float32
        q = query.index_select(0, segments.places).to(wide)
        result = q.new_empty(len(q), query.shape[1], value.shape[2])
        kept = []
        for block, cut, k, v in _blocks(segments, key, value, wide):
            with torch.autocast(query.device.type, enabled=False):
                output, of_block = attend(block, _lines(q[cut], block), k, v, scaling)
            _lines(result[cut], block).copy_(output)
            kept.append(of_block)
        joined = result.to(query.dtype).index_select(0, segments.slots)
        if len(segments.idle):
            joined[segments.idle] = 0
        ctx.save_for_backward(query, key, value, joined, *kept)
        ctx.segments, ctx.scaling, ctx.wide = segments, scaling, wide
        return joined

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, joined, *kept = ctx.saved_tensors
        segments: Segments = ctx.segments
        q, out, grad = (states.index_select(0, segments.places).to(ctx.wide) for states in (query, joined, grads[0]))
        grad[segments.padding] = 0  # a slot that pads repeats a place; its keys are unseen, and its output unused
        own = [q.new_empty(len(q), *states.shape[1:]) for states in (query, key, value)]
        paths: list[tuple[torch.Tensor, list[torch.Tensor]]] = []
        for (block, cut, k, v), of_block in zip(_blocks(segments, key, value, ctx.wide), kept, strict=True):
            of_output, lines, output = (_lines(states[cut], block) for states in (grad, q, out))
            with torch.autocast(query.device.type, enabled=False):
                of_query, *of_keys = attend_backward(block, of_output, lines, k, v, output, of_block, ctx.scaling)
            _lines(own[0][cut], block).copy_(of_query)
            above = len(block.above)
            for whole, of_key in zip(own[1:], of_keys, strict=True):
                _lines(whole[cut], block).copy_(of_key[:, :, above:].transpose(1, 2))
            if above:
                paths.append((block.above, [of_key[:, :, :above].sum(0).transpose(0, 1) for of_key in of_keys]))
        results = [whole.index_select(0, segments.slots) for whole in own]
        for places, sums in paths:
            for result, of_path in zip(results[1:], sums, strict=True):
                result.index_add_(0, places, of_path)
        if len(segments.idle):
            for result in results:
                result[segments.idle] = 0
        return (
            *(result.to(states.dtype) for result, states in zip(results, (query, key, value), strict=True)),
            None,
            None,
        )


def _blocks(
    segments: Segments, key: torch.Tensor, value: torch.Tensor, dtype: torch.dtype
) -> Iterator[tuple[Block, slice, torch.Tensor, torch.Tensor]]:
    """Each block, its slots, and its keys and values [count, kv heads, a + length, d]."""
    for block in segments.blocks:
        cut = slice(block.start, block.start + block.count * block.length)
        places = segments.places[cut].view(block.count, -1)
        if len(block.above):
            places = torch.cat([block.above.expand(block.count, -1), places], 1)
        k, v = (rows.index_select(0, places.flatten()).to(dtype) for rows in (key, value))
        k, v = (rows.view(block.count, -1, *rows.shape[1:]).transpose(1, 2).contiguous() for rows in (k, v))
        yield block, cut, k, v


def _lines(rows: torch.Tensor, block: Block) -> torch.Tensor:
    """Slots of a block [count * length, heads, d] as [count, length, heads, d]; a view."""
    return rows.view(block.count, block.length, *rows.shape[1:])


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
