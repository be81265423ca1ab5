"""How likely the model finds the reference answers, for metrics that need it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from core.evaluation.generate import Decoding
from core.evaluation.greedy import Decoder
from core.processes import gather_objects, rank, world_size
from core.types import Example, Segment

if TYPE_CHECKING:
    from core.types import Tokenizer


def measure_likelihood(
    decoder: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], references: Sequence[str], decoding: Decoding
) -> dict[int, dict[str, float]]:
    """`nll` (nats, summed over the reference's tokens) and `tokens` per item; the same on every rank.

    Prompt and reference are tokenised together, as in training; the end-of-turn mark is not counted.
    """
    from core.data import tokenize_example

    rows = [
        tokenize_example(Example((Segment(prompt), Segment(reference, trained=True, answer=True))), tokenizer)
        for prompt, reference in zip(prompts, references, strict=True)
    ]
    order = sorted(range(len(rows)), key=lambda index: (-len(rows[index].input_ids), index))
    size = decoding.batch_size
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    found: list[tuple[int, dict[str, float]]] = []
    for turn in range(math.ceil(len(batches) / world_size())):
        mine = turn * world_size() + rank()
        idle = mine >= len(batches)
        if idle and not decoder.synced:
            break
        indices = order[:1] if idle else batches[mine]
        sums = _nll([rows[index] for index in indices], decoder, decoding.pad_id)
        if not idle:
            found += [(index, {"nll": nll, "tokens": float(n)}) for index, (nll, n) in zip(indices, sums, strict=True)]
    return dict(gather_objects(found))


def _nll(rows: Sequence[Any], decoder: Decoder, pad_id: int) -> list[tuple[float, int]]:
    """Summed negative log-likelihood and number of the labelled tokens of each row, padded on the left."""
    import torch

    width = max(len(row.input_ids) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    labels = torch.full((len(rows), width), -100, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        start = width - len(row.input_ids)
        ids[index, start:] = torch.tensor(list(row.input_ids))
        labels[index, start:] = torch.tensor(list(row.labels))
        mask[index, start:] = 1
    first = int((labels != -100).any(0).int().argmax()) if bool((labels != -100).any()) else width - 1
    keep = min(width, width - first + 1)  # the logits that predict the labelled tokens, and the last one
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    optional = {"position_ids": positions.to(decoder.device), "logits_to_keep": keep, "use_cache": False}
    kwargs = {name: value for name, value in optional.items() if name in decoder.accepts}
    with torch.no_grad():
        logits = decoder.model(
            input_ids=ids.to(decoder.device), attention_mask=mask.to(decoder.device), **kwargs
        ).logits[:, -keep:]
        targets = labels[:, -keep:][:, 1:].to(logits.device)
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), targets, ignore_index=-100, reduction="none"
        )
    counts = (targets != -100).sum(1)
    return [(float(nll), int(n)) for nll, n in zip(losses.sum(1).tolist(), counts.tolist(), strict=True)]
