"""Greedy decoding of one batch, with the key/value cache of a prompt prefix that all rows share computed only once.

Own loop instead of `model.generate`: it calls the model as it is wrapped (FSDP, DeepSpeed), takes nothing from the
model's own generation settings (sampling, penalties), and lets rows that have ended leave the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import UserError

if TYPE_CHECKING:
    import torch

    from core.types import Module


# tokens of padding that one more call of the model has to spare, by the kind of device
PADDING = {"cpu": 96}
PADDING_ON_ACCELERATOR = 4096
KEPT = 0.75  # of the rows: once no more than these are still running, the others leave the batch


@dataclass(frozen=True)
class Decoder:
    """A model and what its forward understands, looked up once.

    cached: the model takes a key/value cache; without one every step recomputes the whole row. positioned: positions
    can be stated, and mean the same in rows of any length. shareable: every layer also attends to the whole past, so
    that a prefix can be computed once for rows of different length. synced: the weights are spread over the ranks, so
    all ranks must call the model equally often.
    """

    model: Module
    config: Any
    accepts: frozenset[str]
    cached: bool
    positioned: bool
    shareable: bool
    synced: bool
    device: torch.device


@dataclass(frozen=True)
class Prefix:
    """Token ids that start every row, and the cache of them (batch of one)."""

    ids: tuple[int, ...]
    cache: Any


def make_decoder(model: Module) -> Decoder:
    """What `greedy` needs to know about `model`, which may be wrapped by peft, DDP, FSDP or DeepSpeed."""
    from torch.nn.parallel import DistributedDataParallel

    from core.evaluation.cache import full_attention

    if isinstance(model, DistributedDataParallel):
        model = model.module  # DDP broadcasts buffers at each forward: a rank with more batches would wait for ever
    inner = innermost(model)
    parameters = inspect.signature(type(inner).forward).parameters
    takes_rest = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    accepts = frozenset(parameters)
    config = inner.config
    prompt_learning = bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))
    cached = "past_key_values" in accepts and (takes_rest or "use_cache" in accepts) and not prompt_learning
    positioned = "position_ids" in accepts and not _changing_positions(config)
    return Decoder(
        model=model,
        config=config,
        accepts=accepts,
        cached=cached,
        positioned=positioned,
        shareable=cached and positioned and full_attention(config),
        synced=is_sharded(model),
        device=next(model.parameters()).device,
    )


def innermost(model: Module) -> Any:
    """The transformers model inside the wrappers of peft, DDP, FSDP and DeepSpeed."""
    inner: Any = model
    while True:
        if hasattr(inner, "get_base_model"):
            inner = inner.get_base_model()
        elif not hasattr(type(inner), "config_class") and hasattr(inner, "module"):
            inner = inner.module
        else:
            return inner


def is_sharded(model: Module) -> bool:
    """Whether the weights are spread over the ranks (FSDP 1 or 2, DeepSpeed ZeRO-3)."""
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    if any(isinstance(module, (FSDPModule, FullyShardedDataParallel)) for module in model.modules()):
        return True
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())


def share_prefix(decoder: Decoder, ids: Sequence[int]) -> Prefix:
    """Compute the cache of `ids` once, to be used by every batch whose rows start with them."""
    import torch

    from core.evaluation.cache import empty_cache

    cache = empty_cache(decoder.config)
    length = len(ids)
    with torch.no_grad():
        _forward(
            decoder,
            torch.tensor([list(ids)], device=decoder.device),
            torch.ones((1, length), dtype=torch.long, device=decoder.device),
            torch.arange(length, device=decoder.device)[None],
            cache,
        )
    return Prefix(tuple(ids), cache)


def greedy(
    decoder: Decoder,
    rows: Sequence[Sequence[int]],
    *,
    stop_ids: Collection[int],
    pad_id: int,
    max_new_tokens: int,
    prefix: Prefix | None = None,
    watch: Callable[[int, Sequence[int]], bool] | None = None,
) -> list[list[int]]:
    """The most likely next token, again and again, for each of `rows` (token ids after the prefix, none of them empty).

    Returns the new tokens of each row, the stopping token included where there is one. Rows are padded on the left;
    with a prefix the padding stands around the row, masked out and not counted in the positions.
    watch: told the number of a row and its new tokens after each of them; where it gives True, the row ends.
    """
    import torch

    device = decoder.device
    logits, mask, positions, ids, cache = _begun(decoder, rows, pad_id, max_new_tokens, prefix)
    if bool(logits.isnan().any()):
        raise UserError(
            "the model computes NaN instead of probabilities",
            help="try another precision (bf16 instead of fp16, or full precision), or check the weights",
        )
    produced: list[list[int]] = [[] for _ in rows]
    active = list(range(len(rows)))  # the rows still in the batch, in its order
    running = [True] * len(rows)
    with torch.no_grad():
        for step in range(max_new_tokens):
            if step:
                logits = _forward(decoder, ids, mask, positions, cache)
            tokens = logits.argmax(-1)
            for number, token in zip(active, tokens.tolist(), strict=True):
                if running[number]:
                    produced[number].append(token)
                    ended = watch is not None and watch(number, produced[number])
                    running[number] = not ended and token not in stop_ids
            if not _anyone(any(running), decoder):
                break
            ids_next = tokens[:, None]
            keep = [slot for slot, number in enumerate(active) if running[number]]
            if keep and len(keep) <= KEPT * len(active):
                kept = torch.tensor(keep, device=device)
                ids_next, mask, positions, ids = ids_next[kept], mask[kept], positions[kept], ids[kept]
                if decoder.cached:
                    cache.batch_select_indices(kept)
                active = [active[slot] for slot in keep]
            mask = torch.cat([mask, mask.new_ones((len(active), 1))], dim=1)
            if decoder.cached:
                ids, positions = ids_next, positions[:, -1:] + 1
            else:
                ids = torch.cat([ids, ids_next], dim=1)
                positions = torch.cat([positions, positions[:, -1:] + 1], dim=1)
    return produced


def _begun(
    decoder: Decoder, rows: Sequence[Sequence[int]], pad_id: int, max_new_tokens: int, prefix: Prefix | None
) -> tuple[Any, Any, Any, Any, Any]:
    """The prompts computed: logits of each row's last token, mask, positions, ids and cache.

    With a prefix, rows of like length are computed together, so that little is spent on padding; the cache holds a
    group's rows right after the prefix, and what is left up to the longest row is masked out.
    """
    import torch

    start, width = len(prefix.ids) if prefix else 0, max(len(row) for row in rows)
    cache = _new_cache(decoder, len(rows), start + width + max_new_tokens, prefix)
    mask = torch.zeros((len(rows), start + width), dtype=torch.long, device=decoder.device)
    last = torch.zeros((len(rows), 1), dtype=torch.long, device=decoder.device)
    least = PADDING.get(decoder.device.type, PADDING_ON_ACCELERATOR)
    # spread weights: all ranks call the model equally often
    groups = _groups([len(row) for row in rows], least) if prefix and not decoder.synced else [(0, len(rows))]
    if len(groups) == 1:
        ids, own, positions = (part.to(decoder.device) for part in _padded(rows, pad_id, start))
        mask[:, :start], mask[:, start:] = 1, own
        with torch.no_grad():
            return _forward(decoder, ids, mask, positions, cache), mask, positions, ids, cache
    from core.evaluation.cache import grow, part_of

    found = []
    for first, end in groups:
        ids, own, positions = (part.to(decoder.device) for part in _padded(rows[first:end], pad_id, start))
        held = start + ids.shape[1]
        mask[first:end, :start], mask[first:end, start:held] = 1, own
        last[first:end] = positions[:, -1:]
        part = part_of(cache, decoder.config, first, end)
        with torch.no_grad():
            found.append(_forward(decoder, ids, mask[first:end, :held], positions, part))
    grow(cache, start + width)
    return torch.cat(found), mask, last, last, cache


def _padded(rows: Sequence[Sequence[int]], pad_id: int, start: int) -> tuple[Any, Any, Any]:
    """Ids, mask and positions of rows padded on the left, [rows, longest], the first token at position `start`."""
    import torch

    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, width - len(row) :] = torch.tensor(row)
        mask[index, width - len(row) :] = 1
    return ids, mask, (start + mask.cumsum(-1) - 1).clamp(min=0)


def _groups(lengths: Sequence[int], least: int) -> list[tuple[int, int]]:
    """Runs (first, end) of rows to be padded to the same length: cut in two, again and again, wherever that spares at
    least `least` tokens of padding."""

    def cut(first: int, end: int) -> list[tuple[int, int]]:
        whole = (end - first) * max(lengths[first:end])
        spared = {
            at: whole - (at - first) * max(lengths[first:at]) - (end - at) * max(lengths[at:end])
            for at in range(first + 1, end)
        }
        at = max(spared, key=lambda at: spared[at], default=first)
        return [*cut(first, at), *cut(at, end)] if spared and spared[at] >= least else [(first, end)]

    return cut(0, len(lengths))


def _forward(decoder: Decoder, ids: Any, mask: Any, positions: Any, cache: Any) -> Any:
    """Logits of the last position of each row, [rows, vocabulary], float32."""
    optional = {"position_ids": positions, "logits_to_keep": 1}
    kwargs = {name: value for name, value in optional.items() if name in decoder.accepts}
    if decoder.cached:
        kwargs |= {"past_key_values": cache, "use_cache": True}
    elif "use_cache" in decoder.accepts:
        kwargs["use_cache"] = False
    return decoder.model(input_ids=ids, attention_mask=mask, **kwargs).logits[:, -1].float()


def _anyone(running: bool, decoder: Decoder) -> bool:
    """Whether any row is still running: here, or with spread weights on any rank."""
    if not decoder.synced:
        return running
    import torch
    import torch.distributed

    flag = torch.tensor(int(running), device=decoder.device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


def _changing_positions(config: Any) -> bool:
    """Whether the rotary embedding of a token depends on how long the row gets, so that no cache of a part holds."""
    text = config.get_text_config()
    scaling = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    return any(kind in str(scaling) for kind in ("dynamic", "longrope"))


def _new_cache(decoder: Decoder, rows: int, length: int, prefix: Prefix | None) -> Any:
    if not decoder.cached:
        return None
    from core.evaluation.cache import empty_cache, roomy_cache

    if not decoder.shareable:
        return empty_cache(decoder.config)
    return roomy_cache(decoder.config, rows, length, prefix.cache if prefix else None)
