"""Cross-entropy of a linear head without its logits: loss and gradients in one pass over chunks of rows."""

from __future__ import annotations

from typing import Any

import torch


class LinearLoss(torch.autograd.Function):
    """Summed cross-entropy of `hidden @ weight.T + bias`, scaled and soft-capped, one chunk of logits at a time.

    The gradient of a sum needs nothing from above but one factor, so it is formed while the chunk's logits are there.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        target_ids: torch.Tensor,
        scale: float,
        softcap: float | None,
        chunk: int,
        graded: bool,
    ) -> torch.Tensor:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        of_hidden, of_weight, of_bias = (graded and needed for needed in ctx.needs_input_grad[:3])
        grad_hidden = torch.empty_like(hidden) if of_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if of_weight else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if of_bias and bias is not None else None
        total = torch.zeros((), dtype=wide, device=hidden.device)
        for start in range(0, len(hidden), chunk):
            part, ids = hidden[start : start + chunk], target_ids[start : start + chunk, None]
            logits = torch.nn.functional.linear(part, weight, bias).to(wide)
            if scale != 1.0:
                logits *= scale
            slope = None
            if softcap is not None:
                logits.div_(softcap).tanh_()
                slope = 1 - logits.square()
                logits *= softcap
            normaliser = logits.logsumexp(-1, keepdim=True)
            total += (normaliser - logits.gather(-1, ids)).sum()
            if not (of_hidden or of_weight or of_bias):
                continue
            grad = logits.sub_(normaliser).exp_()  # the softmax, in the logits' own memory
            grad.scatter_add_(-1, ids, torch.full_like(ids, -1, dtype=wide))
            if slope is not None:
                grad *= slope
            if scale != 1.0:
                grad *= scale
            if grad_bias is not None:
                grad_bias += grad.sum(0)
            low = grad.to(weight.dtype)
            if grad_hidden is not None:
                grad_hidden[start : start + chunk] = low @ weight
            if grad_weight is not None:
                grad_weight.addmm_(low.t().to(wide), part.to(wide))
        ctx.kept = tuple(
            g if g is None else g.to(t) for g, t in _paired(grad_hidden, hidden, grad_weight, weight, grad_bias, bias)
        )
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        factor = grad_outputs[0]
        grads = tuple(None if g is None else g * factor.to(g.dtype) for g in ctx.kept)
        return (*grads, None, None, None, None, None)


def _paired(*values: Any) -> list[tuple[Any, Any]]:
    return [(g, getattr(t, "dtype", None)) for g, t in zip(values[::2], values[1::2], strict=True)]


def linear_loss(*args: Any) -> torch.Tensor:
    """`LinearLoss`, as a function: summed cross-entropy, differentiable in `hidden`, `weight` and `bias`."""
    loss: torch.Tensor = LinearLoss.apply(*args)  # type: ignore[no-untyped-call]
    return loss
