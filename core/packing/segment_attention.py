"""The attention function that computes segment by segment (see `segments`)."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from core.packing.segments import Segments


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
    wide = query.dtype == torch.bfloat16 and query.device.type == "cpu"  # its backward kernel is slow there
    rows = [states.transpose(1, 2).reshape(batch * length, *states.shape[1::2]) for states in (query, key, value)]
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
        if wide:
            own = [states.float() for states in own]
        with torch.autocast(query.device.type, enabled=not wide and torch.is_autocast_enabled(query.device.type)):
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
        outputs.append(attended.transpose(1, 2).to(query.dtype).reshape(-1, heads, value.shape[-1]))
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return _arranged(joined, segments.slots, segments.places, segments.padding).view(batch, length, heads, -1), None


def _arranged(*operands: torch.Tensor) -> torch.Tensor:
    arranged: torch.Tensor = Rearrange.apply(*operands)  # type: ignore[no-untyped-call]
    return arranged
