"""Flash attention where it is installed: whether the model can be given it, and whether it pays beside sharing."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

from core import Data, Plan
from core.console import say
from core.data.rows import array_rows
from core.models.parameters import SHAPE_OF
from core.packing import (
    PASS_TOKENS,
    drops_attention,
    lay_out_rows,
    pack_dataset,
    pair_cost_of,
    probe_isolated_attention,
    unwrapped,
)
from core.processes import device_type, gather_objects

from .packed import Layout

RECKONED_ROWS = 20_000  # the first of the training rows
KEY = "attn_implementation chooses another"


def flash_attention(plan: Plan, model: Any) -> tuple[str | None, str]:
    """The flash attention to take where the recipe names no attention, or None; and why.

    No reason is given where none is asked for: away from a GPU, or with an attention of the recipe's own.
    """
    import torch
    from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

    inner = unwrapped(model)
    device = getattr(inner, SHAPE_OF, None) or device_type()
    if plan.recipe["attn_implementation"] or device != "cuda" or not torch.cuda.is_available():
        return None, ""
    generation = torch.cuda.get_device_capability()[0]
    installed = {
        "flash_attention_3": is_flash_attn_3_available() and generation == 9 and not drops_attention(inner.config),
        "flash_attention_2": is_flash_attn_2_available() and generation >= 8,
    }
    name = next((name for name, there in installed.items() if there), None)
    if name is None and (is_flash_attn_2_available() or is_flash_attn_3_available()):
        return None, "the flash attention that is installed has no kernel for this GPU"
    if name is None:
        return None, "flash attention is not installed (pip install flash-attn)"
    if inner.dtype not in (torch.float16, torch.bfloat16):
        return None, f"{name} computes in half precision, and the weights are {inner.dtype}".replace("torch.", "")
    made_for = getattr(inner, "_compatible_flash_implementations", None)
    if not getattr(inner, "_supports_flash_attn", False) or (made_for is not None and name not in made_for):
        return None, f"{type(inner).__name__} does not go with {name}"
    return name, "it is installed"


def choose_attention(plan: Plan, model: Any, data: Data, layout: Layout) -> Layout:
    """Flash attention for the model where it can be had and pays; prints what is taken, and why.

    It cannot share prefixes: where `share_prefixes: auto` would, what computes less by `costs` is taken. Returns the
    layout to go on with.
    """
    name, reason = _of_all_ranks(flash_attention(plan, model))
    inner = unwrapped(model)
    present = inner.config._attn_implementation
    if name is None:
        if reason:
            say(f"attention is computed with {present}: {reason}")
        return layout
    if layout.share and plan.recipe["share_prefixes"] is True:
        say(f"attention is computed with {present}: {name} cannot share prefixes, which share_prefixes: true asks for")
        return layout
    why = reason
    if layout.share:
        shared, apart = costs(plan, inner.config, data, layout)
        saved = f"sharing prefixes with {present} costs {100 * shared / apart:.0f} % of {name} without"
        if shared < apart:
            say(f"attention is computed with {present}: {saved}")
            return layout
        why = f"{reason}, and {saved}"
    refusals = gather_objects([taken(plan, model, name, packed=layout.bins)])
    if refused := next(filter(None, refusals), ""):
        if inner.config._attn_implementation != present:  # it is another rank that cannot
            inner.set_attn_implementation(present)
        say(f"attention is computed with {present}: {name} is installed, but {refused}")
        return layout
    say(f"attention is computed with {name}: {why} ({KEY})")
    return replace(layout, share=False)


def _of_all_ranks(found: tuple[str | None, str]) -> tuple[str | None, str]:
    """The choice that every rank can go with: machines may differ, and ranks have to lay out their rows alike."""
    choices = gather_objects([found])
    if len(set(choices)) == 1:
        return found
    lacking = next((f"{reason}, on one of the processes" for name, reason in choices if name is None), None)
    return None, lacking or "each process would take another flash attention"


def planned_sharing(plan: Plan, model: Any, data: Data, layout: Layout) -> Layout:
    """The layout that `choose_attention` will leave, as far as it can be known without the weights. A model that has
    them has been given its attention before, with what was found when it was tried."""
    inner = unwrapped(model)
    if not layout.share or plan.recipe["share_prefixes"] is True or not hasattr(inner, SHAPE_OF):
        return layout
    if flash_attention(plan, model)[0] is None:
        return layout
    shared, apart = costs(plan, inner.config, data, layout)
    return layout if shared < apart else replace(layout, share=False)


def taken(plan: Plan, model: Any, name: str, *, packed: bool) -> str:
    """Give the model an attention, and try it; why it cannot be used, with what the model had before in its place."""
    inner = unwrapped(model)
    before = inner.config._attn_implementation
    try:
        inner.set_attn_implementation(name)  # a package made for another torch fails as it is imported
    except (ImportError, OSError, ValueError, RuntimeError, AttributeError) as error:
        reason = f"it cannot be loaded: {_first_line(error)}"
    else:
        sharded = plan.recipe["fsdp"] or plan.recipe["fsdp_config"] or plan.recipe["deepspeed"]
        if inner.config._attn_implementation != name:
            reason = f"{type(inner).__name__} cannot change its attention"
        elif sharded:  # there may be no weights to try it with yet
            return ""
        else:
            reason = probe_isolated_attention(model, share=False)[1] if packed else _refusal(model)
    if reason and inner.config._attn_implementation != before:
        inner.set_attn_implementation(before)
    return reason


def _refusal(model: Any) -> str:
    """Why the model cannot compute two rows, one of them padded; nothing if it can."""
    import torch

    ids = torch.arange(1, 17, device=next(model.parameters()).device).expand(2, -1)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            finite = bool(model(input_ids=ids, attention_mask=mask).logits[mask.bool()].isfinite().all())
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        return f"the model refuses a row: {_first_line(error)}"
    finally:
        model.train(training)
    return "" if finite else "its logits are not finite"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def costs(plan: Plan, config: Any, data: Data, layout: Layout) -> tuple[float, float]:
    """What the first training rows cost with shared prefixes under masks, and apart with flash attention; in tokens.

    Under a mask every pair of places in a bin is computed, by flash attention those of a row that come in order.
    """
    room, pair_cost = plan.recipe["sequence_len"] or 2048, pair_cost_of(config)
    rows = list(islice(array_rows(data.train), RECKONED_ROWS))
    rows = [row for row in rows if len(row["input_ids"]) <= room]
    pairs = sum(pair_cost * len(row["input_ids"]) ** 2 / 2 for row in rows)
    if layout.bins:
        shared, apart = (pack_dataset(rows, room, share_prefixes=share) for share in (True, False))
        masked = sum(size + pair_cost * size**2 + PASS_TOKENS for size in shared.sizes)
        return masked, apart.stored_tokens + PASS_TOKENS * len(apart.bins) + pairs
    micro = plan.recipe["micro_batch_size"]
    micro = micro if isinstance(micro, int) else 4
    batches = [rows[at : at + micro] for at in range(0, len(rows), micro)]
    sizes = [len(lay_out_rows(batch)) for batch in batches]
    padded = sum(len(batch) * max(len(row["input_ids"]) for row in batch) for batch in batches)
    return sum(size + pair_cost * size**2 for size in sizes), padded + pairs
