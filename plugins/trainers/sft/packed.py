"""Whether rows are packed, or share their common prefixes, in this run; and the batches that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from core import Plan, Recipe, UserError
from core.console import say
from core.data.rows import array_rows
from core.models.parameters import SHAPE_OF
from core.packing import (
    FLEX,
    FLEX_BLOCK,
    SHARED,
    Packing,
    collate_bins,
    computed_pairs,
    goes_by_lengths,
    lay_out_rows,
    pack_dataset,
    pack_step,
    probe_isolated_attention,
    register_segments,
    supports_isolated_attention,
    unwrapped,
)

from .batches import BatchPlan, MicroBatch, UnitRows, balance

PROBED_BATCHES = 16
REPORTED_STEPS = 1000  # of an epoch, looked at for padding and balance
SLACK = 0.03  # of the cost, for bins that hold less memory
WORTH = 0.95  # of the plain cost: above this, sharing prefixes is left off unless the recipe insists

Rows = Sequence[Mapping[str, Any]]
Collate = Callable[[Sequence[Rows]], dict[str, Any]]
Positions = Callable[[Sequence[int]], int]


@dataclass(frozen=True)
class Layout:
    """bins: a unit is a packed bin of rows. share: rows that begin alike have their beginning computed once."""

    bins: bool = False
    share: bool = False


def choose_layout(plan: Plan, model: Any) -> Layout:
    """The layout the recipe asks for, if the model can compute it without one row seeing another.

    Raises `UserError` if it cannot and the recipe insists; `share_prefixes: auto` falls back, and says why.
    """
    recipe = plan.recipe
    inner = unwrapped(model)
    attention, other = inner.config._attn_implementation, with_masks(inner)
    wanted = wanted_layout(recipe, attention)
    if goes_by_lengths(attention) and wanted.share:
        say(f"attention is computed with {other}: {attention!r} {SHARED}, and share_prefixes: true asks for it")
        inner.set_attn_implementation(other)
    elif goes_by_lengths(attention) and recipe["share_prefixes"]:
        say(f"common prefixes are not shared: {attention!r} {SHARED} (share_prefixes: true computes with {other})")
    if not wanted.bins and not wanted.share:
        return wanted
    works, reason = _isolates(plan, model, share=wanted.share)
    if works:
        return wanted
    key = "sample_packing" if wanted.bins else "share_prefixes"
    if wanted.bins or recipe["share_prefixes"] is True:
        raise UserError(f"{key}: true cannot be used with this model: {reason}", help=f"set {key}: false")
    say(f"common prefixes are not shared: {reason}")
    return Layout()


def wanted_layout(recipe: Recipe, attention: str | None) -> Layout:
    """The layout that the recipe's keys ask for; flash attention shares prefixes only where the recipe insists."""
    asked = recipe["share_prefixes"]
    share = asked is True or (asked == "auto" and not goes_by_lengths(attention))
    return Layout(bins=bool(recipe["sample_packing"]), share=share)


def with_masks(model: Any) -> str:
    """The attention that takes any mask and that the model has: not all have sdpa, which caps no scores."""
    return "sdpa" if getattr(model, "_supports_sdpa", True) else "eager"


def pack(dataset: Any, plan: Plan, layout: Layout, name: str) -> Packing:
    """All rows of `dataset` in bins of `sequence_len`. Raises `UserError` for rows that do not fit."""
    recipe = plan.recipe
    try:
        return pack_dataset(
            array_rows(dataset),
            recipe["sequence_len"] or 2048,
            share_prefixes=layout.share,
            padded=bool(recipe["pad_to_sequence_len"]),
        )
    except ValueError as error:
        raise UserError(
            f"the {name} rows cannot be packed: {error}", help="raise sequence_len, or drop the longer rows"
        ) from error


def say_packing(packing: Packing, batches: BatchPlan, positions: Positions, name: str) -> None:
    """Print how full the bins are, what is saved, how much of what is computed is tokens, and how even ranks are."""
    order, tokens, places = batches.order(0), 0, 0
    for number in range(min(REPORTED_STEPS, batches.steps_per_epoch)):
        for batch in (batch for ranks in batches.step(order, number) for batch in ranks if batch.counted):
            tokens += sum(packing.sizes[unit] for unit in batch.units)
            places += positions(batch.units)
    say(
        f"{name} rows packed into {len(packing.bins):,} bins of {packing.capacity:,} tokens, "
        f"{100 * packing.efficiency:.1f} % full; computes {100 * packing.computed_share:.0f} % of the tokens, "
        + ("with no padding" if places == tokens else f"and {100 * (1 - tokens / places):.1f} % of padding with them")
    )
    if name == "training":
        say_balance(batches, positions, REPORTED_STEPS)


def say_balance(batches: BatchPlan, load: Callable[[tuple[int, ...]], float], most: int) -> None:
    """Print how much more than the mean the most loaded rank computes in a step, where there are several."""
    if batches.world_size > 1 and (ratio := balance(batches, load, most)) is not None:
        say(f"of {batches.world_size} processes, the most loaded one computes {ratio:.3f} times the mean in a step")


def say_balance_of_rows(dataset: Any, batches: BatchPlan, pad_to: int) -> None:
    """As `say_balance`, where units are rows: padded, or with what they share computed once."""
    if batches.world_size == 1:
        return
    if not batches.even:
        lengths = batches.lengths
        say_balance(batches, lambda units: len(units) * max(pad_to, *(lengths[unit] for unit in units)), REPORTED_STEPS)
        return
    units = UnitRows(dataset, batches)
    steps = max(1, PROBED_BATCHES // batches.accumulation)
    say_balance(batches, lambda numbers: len(lay_out_rows(rows_of(units.__getitems__(MicroBatch(numbers))[1]))), steps)


def bin_positions(plan: Plan, model: Any, packing: Packing) -> Positions:
    """How many positions are computed for a micro batch of these bins: what is more than their sizes pads."""
    pad_to = (plan.recipe["sequence_len"] or 0) if plan.recipe["pad_to_sequence_len"] else 0
    attention = unwrapped(model).config._attn_implementation
    one_by_one = on_cpu(model)

    def positions(units: Sequence[int]) -> int:
        sizes = [packing.sizes[unit] for unit in units]
        if one_by_one:
            return sum(max(pad_to, size) for size in sizes)
        longest = max(pad_to, *sizes)
        if all(len(packing.bins[unit]) == 1 for unit in units):  # plain rows need nothing that tells them apart
            return len(sizes) * longest
        if goes_by_lengths(attention):
            return max(pad_to * len(sizes), sum(sizes))
        return len(sizes) * (-(-longest // FLEX_BLOCK) * FLEX_BLOCK if attention == FLEX else longest)

    return positions


def collate_packed(plan: Plan, model: Any, layout: Layout, pad_token_id: int) -> Collate:
    """Units that are bins: each becomes one line of the batch."""
    config = unwrapped(model).config
    pad_to = plan.recipe["sequence_len"] if plan.recipe["pad_to_sequence_len"] else 0
    one_by_one = on_cpu(model)

    def collate(units: Sequence[Rows]) -> dict[str, Any]:
        bins = [lay_out_rows(rows, share_prefixes=layout.share) for rows in units]
        if one_by_one:
            return in_parts([collate_bins([b], config, pad_token_id=pad_token_id, pad_to=pad_to) for b in bins])
        return collate_bins(bins, config, pad_token_id=pad_token_id, pad_to=pad_to)

    return collate


def collate_shared(plan: Plan, model: Any, pair_cost: float, pad_token_id: int) -> Collate:
    """Units that are rows: those of a micro batch are laid out in the bins that cost least."""
    config = unwrapped(model).config
    one_by_one = on_cpu(model)

    def collate(units: Sequence[Rows]) -> dict[str, Any]:
        room = plan.recipe["sequence_len"] or 2048
        if one_by_one:  # attention by segments: a longer bin costs no more, and only its memory speaks against it
            (bins,) = pack_step(rows_of(units), room, together=False, slack=SLACK)
            return in_parts([collate_bins([b], config, pad_token_id=pad_token_id) for b in bins])
        (bins,) = pack_step(rows_of(units), room, pair_cost=pair_cost, blocks=config._attn_implementation == FLEX)
        return collate_bins(bins, config, pad_token_id=pad_token_id)

    return collate


def sharing_pays(
    dataset: Any, batches: BatchPlan, collate: Collate, pair_cost: float, *, name: str, insisted: bool
) -> bool:
    """Whether the first micro batches cost clearly less laid out together than padded; prints how much less."""
    units = UnitRows(dataset, batches)
    tokens, costs = [0, 0], [0.0, 0.0]
    for batch in islice(batches.epoch(0, 0), PROBED_BATCHES):
        _, rows = units.__getitems__(batch)
        longest = max(len(row["input_ids"]) for row in rows_of(rows))
        laid_out = collate(rows)
        parts = laid_out.get("parts", [laid_out])
        plain = len(rows) * longest
        tokens[0] += plain
        tokens[1] += sum(part["input_ids"].numel() for part in parts)
        blocks = "reach" in laid_out
        costs[0] += plain + pair_cost * len(rows) * (computed_pairs([longest] * longest) if blocks else longest**2)
        for part in parts:
            lines, length = part["input_ids"].shape
            # by segments, what is computed of the square is hardly more than what the rows themselves have
            pairs = lines * length * (longest if "parts" in laid_out else length)
            if blocks:
                pairs = sum(computed_pairs(line) for line in laid_out["reach"].numpy())
            costs[1] += lines * length + pair_cost * pairs
    if not insisted and costs[1] > WORTH * costs[0]:
        return False
    share = f"{100 * tokens[1] / tokens[0]:.0f} %"
    say(f"{name} rows share a micro batch, their common prefixes computed once: computes {share} of the tokens")
    return True


def _isolates(plan: Plan, model: Any, *, share: bool) -> tuple[bool, str]:
    """Whether the model keeps packed rows apart; an attention that cannot is exchanged for sdpa, with a word."""
    inner = unwrapped(model)
    works, reason = _keeps_apart(plan, model, share=share)
    other = with_masks(inner)
    present = inner.config._attn_implementation in ("sdpa", "eager", register_segments())
    possible = not present and supports_isolated_attention(inner.config, other)[0]
    if not works and possible and plan.recipe["sample_packing"]:
        say(f"attention is computed with {other}: {reason}")
        inner.set_attn_implementation(other)
        works, reason = _keeps_apart(plan, model, share=share)
    return works, reason


def _keeps_apart(plan: Plan, model: Any, *, share: bool) -> tuple[bool, str]:
    """Whether the model keeps packed rows apart with the attention that it has: by its configuration, and tried."""
    inner = unwrapped(model)
    works, reason = supports_isolated_attention(inner.config, share=share)
    if works and on_cpu(model) and inner.config._attn_implementation == "sdpa":
        if plan.recipe["dataloader_num_workers"]:
            # what tells the rows of a mask apart is lost on its way from another process
            say("attention is computed over whole bins, which is slower: leave out dataloader_num_workers")
        else:
            inner.set_attn_implementation(register_segments())
    if not works or plan.recipe["fsdp"] or plan.recipe["fsdp_config"] or plan.recipe["deepspeed"]:
        return works, reason  # a model still to be sharded may have no weights to probe yet
    return probe_isolated_attention(model, share=share)


def on_cpu(model: Any) -> bool:
    """Whether the model computes on the processor, where many short computations are as fast as a long one."""
    device = next(model.parameters()).device.type
    return bool((getattr(unwrapped(model), SHAPE_OF, "cuda") if device == "meta" else device) == "cpu")


def in_parts(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """A micro batch whose parts are computed one after the other, so that one alone is in memory."""
    import torch

    return {"parts": parts, "target_ids": torch.cat([part["target_ids"] for part in parts])}


def rows_of(units: Sequence[Rows]) -> list[Mapping[str, Any]]:
    """The rows of all units, in order."""
    return [row for unit in units for row in unit]
