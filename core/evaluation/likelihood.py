"""How likely the model finds given texts: the reference answers, or the choices of a multiple-choice question.

The choices of a question share its prompt: the prompt is computed once, and the choices go on from its key/value cache,
all in one batch. A beginning that all prompts share is computed once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.evaluation.batches import dealt
from core.evaluation.generate import MIN_SHARED_TOKENS, Decoding, common_prefix
from core.evaluation.greedy import Decoder, Prefix, share_prefix
from core.types import Example, Segment

if TYPE_CHECKING:
    from core.types import Tokenizer

IGNORED = -100
VOCABULARY = 16_384


def measure_likelihood(
    decoder: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], references: Sequence[str], decoding: Decoding
) -> dict[int, dict[str, float]]:
    """`nll` (nats, summed over the reference's tokens) and `tokens` per item; the same on every rank.

    Prompt and reference are tokenised together, as in training; the end-of-turn mark is not counted.
    """
    rows = [_row(prompt, reference, tokenizer) for prompt, reference in zip(prompts, references, strict=True)]
    return measure_rows(decoder, rows, decoding)


def measure_rows(decoder: Decoder, rows: Sequence[Any], decoding: Decoding) -> dict[int, dict[str, float]]:
    """`nll` and `tokens` of the labelled tokens of each row, which has `input_ids` and `labels` (-100: not counted)."""
    # the logits of all tokens are held at once: a large vocabulary weighs more than the model's own states
    weight = max(1, decoder.config.get_text_config().vocab_size // VOCABULARY)
    found = dealt(
        decoder,
        [len(row.input_ids) * weight for row in rows],
        decoding.batching,
        lambda indices: plain_nll([rows[index] for index in indices], decoder, decoding.pad_id),
    )
    return {index: {"nll": nll, "tokens": float(n)} for index, (nll, n) in found.items()}


def measure_choices(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
    decoding: Decoding,
    *,
    shared: bool = True,
) -> dict[int, dict[str, float]]:
    """`nll:0`, `tokens:0`, `nll:1`, ... per item, one pair for each of its choices; the same on every rank.

    A token that belongs to the prompt and to the choice (many tokenizers join a space to the word after it) counts for
    the choice. Equal to computing prompt and choice as a whole row each, up to rounding; shared: False does just that.
    """
    rows = [
        _relabelled([_row(prompt, one, tokenizer) for one in listed])
        for prompt, listed in zip(prompts, choices, strict=True)
    ]
    # a question takes as many rows as it has choices, less what they share
    lengths = [sum(len(row.input_ids) for row in listed) for listed in rows]
    if not (shared and decoder.shareable):
        flat = [row for listed in rows for row in listed]
        measured = measure_rows(decoder, flat, decoding)
        pairs = iter([(measured[index]["nll"], int(measured[index]["tokens"])) for index in range(len(flat))])
        return {index: _numbered([next(pairs) for _ in listed]) for index, listed in enumerate(rows)}
    cuts = [_cut(listed) for listed in rows]
    heads = [list(listed[0].input_ids[:cut]) for listed, cut in zip(rows, cuts, strict=True)]
    start = common_prefix(heads)
    prefix = share_prefix(decoder, start) if len(start) >= MIN_SHARED_TOKENS else None
    found = dealt(
        decoder,
        lengths,
        decoding.batching,
        lambda indices: _continued(
            [heads[index] for index in indices],
            [[_tail(row, cuts[index]) for row in rows[index]] for index in indices],
            decoder,
            decoding.pad_id,
            prefix,
        ),
    )
    return {index: _numbered(pairs) for index, pairs in found.items()}


def _row(prompt: str, answer: str, tokenizer: Tokenizer) -> Any:
    from core.data import tokenize_example

    return tokenize_example(Example((Segment(prompt), Segment(answer, trained=True, answer=True))), tokenizer)


def _numbered(pairs: Sequence[tuple[float, int]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for number, (nll, tokens) in enumerate(pairs):
        found |= {f"nll:{number}": nll, f"tokens:{number}": float(tokens)}
    return found


def _cut(rows: Sequence[Any]) -> int:
    """How many tokens begin every row of a question and belong to its prompt; each row keeps one of its own."""
    firsts = [next((i for i, label in enumerate(row.labels) if label != IGNORED), len(row.labels)) for row in rows]
    ids = [list(row.input_ids) for row in rows]
    limit = min(*firsts, *(len(one) - 1 for one in ids))
    return next((i for i in range(limit) if len({one[i] for one in ids}) > 1), limit)


def _relabelled(rows: Sequence[Any]) -> list[Any]:
    """The rows of a question with every token labelled that does not belong to its prompt alone."""
    cut = _cut(rows)
    return [replace(row, labels=[IGNORED] * cut + list(row.input_ids[cut:])) for row in rows]


def _tail(row: Any, cut: int) -> tuple[list[int], list[int]]:
    return list(row.input_ids[cut:]), list(row.labels[cut:])


def plain_nll(rows: Sequence[Any], decoder: Decoder, pad_id: int) -> list[tuple[float, int]]:
    """Summed negative log-likelihood and number of the labelled tokens of each row, padded on the left."""
    import torch

    width = max(len(row.input_ids) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        start = width - len(row.input_ids)
        ids[index, start:] = torch.tensor(list(row.input_ids))
        labels[index, start:] = torch.tensor(list(row.labels))
        mask[index, start:] = 1
    first = int((labels != IGNORED).any(0).int().argmax()) if bool((labels != IGNORED).any()) else width - 1
    keep = min(width, width - first + 1)  # the logits that predict the labelled tokens, and the last one
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = _logits(decoder, ids, mask, positions, None, keep)
    nll, counts = _summed(logits[:, :-1], labels[:, -keep:][:, 1:])
    return list(zip(nll, counts, strict=True))


def _continued(
    heads: Sequence[Sequence[int]],
    tails: Sequence[Sequence[tuple[Sequence[int], Sequence[int]]]],
    decoder: Decoder,
    pad_id: int,
    prefix: Prefix | None,
) -> list[list[tuple[float, int]]]:
    """Per question, negative log-likelihood and number of labelled tokens of each of its choices.

    heads: the prompts, which all begin with `prefix`. tails: what follows, as (ids, labels), for each choice.
    """
    import torch

    from core.evaluation.cache import roomy_cache

    begun = len(prefix.ids) if prefix else 0
    own = [head[begun:] for head in heads]
    width = max(map(len, own))
    ids = torch.full((len(own), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(own), width), dtype=torch.long)
    for index, head in enumerate(own):
        ids[index, width - len(head) :] = torch.tensor(list(head))
        mask[index, width - len(head) :] = 1
    positions = (begun + mask.cumsum(-1) - 1).clamp(min=0)
    mask = torch.cat([torch.ones((len(own), begun), dtype=torch.long), mask], dim=1)

    flat = [(question, *tail) for question, listed in enumerate(tails) for tail in listed]
    owners = torch.tensor([question for question, _, _ in flat])
    # the last token of a choice predicts nothing; with spread weights every rank takes the second step all the same
    steps = max(max(len(tail) for _, tail, _ in flat) - 1, int(decoder.synced))
    labels = torch.full((len(flat), steps + 1), IGNORED, dtype=torch.long)
    following = torch.full((len(flat), steps), pad_id, dtype=torch.long)
    there = torch.zeros((len(flat), steps), dtype=torch.long)
    for index, (_, tail, wanted) in enumerate(flat):
        labels[index, : len(wanted)] = torch.tensor(list(wanted))
        following[index, : len(tail) - 1] = torch.tensor(list(tail[:-1]), dtype=torch.long)
        there[index, : len(tail) - 1] = 1

    cache = roomy_cache(decoder.config, len(own), begun + width + steps, prefix.cache if prefix else None)
    with torch.no_grad():
        last = _logits(decoder, ids, mask, positions, cache, 1)
        logits = last[owners.to(last.device)]
        if steps:
            cache.batch_select_indices(owners.to(decoder.device))
            onwards = positions[owners, -1:] + 1 + torch.arange(steps)[None]
            mask = torch.cat([mask[owners], there], dim=1)
            logits = torch.cat([logits, _logits(decoder, following, mask, onwards, cache, steps)], dim=1)
    nll, counts = _summed(logits, labels)
    measured = iter(list(zip(nll, counts, strict=True)))
    return [[next(measured) for _ in listed] for listed in tails]


def _logits(decoder: Decoder, ids: Any, mask: Any, positions: Any, cache: Any, keep: int) -> Any:
    """Logits of the last `keep` positions, [rows, keep, vocabulary], float32."""
    optional = {
        "position_ids": positions.to(decoder.device),
        "logits_to_keep": keep,
        "use_cache": cache is not None,
        **({"past_key_values": cache} if cache is not None else {}),
    }
    kwargs = {name: value for name, value in optional.items() if name in decoder.accepts or name == "use_cache"}
    if "use_cache" not in decoder.accepts and cache is None:
        del kwargs["use_cache"]
    inputs = {"input_ids": ids.to(decoder.device), "attention_mask": mask.to(decoder.device)}
    return decoder.model(**inputs, **kwargs).logits[:, -keep:].float()


def _summed(logits: Any, labels: Any) -> tuple[list[float], list[int]]:
    """Negative log-likelihood of the labels, summed per row, and how many there are. labels: [rows, tokens]."""
    import torch

    labels = labels.to(logits.device)
    # over the last dimension: over another one, torch sums a vocabulary one by one and is off by 1e-4 nats a token
    flat, wanted = logits.flatten(0, 1), labels.flatten()
    losses = torch.nn.functional.cross_entropy(flat, wanted, ignore_index=IGNORED, reduction="none").view(labels.shape)
    return losses.double().sum(1).tolist(), (labels != IGNORED).sum(1).tolist()
