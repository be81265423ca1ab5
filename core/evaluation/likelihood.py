"""How likely the model finds given texts: the reference answers, or the choices of a multiple-choice question.

Rows are packed side by side as in training, and whatever they begin with alike is computed once: the instruction of all
questions, the question of its choices, and the first words that several choices have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.evaluation.batches import dealt
from core.evaluation.generate import Decoding
from core.evaluation.greedy import Decoder
from core.types import Example, Segment

if TYPE_CHECKING:
    from core.types import Tokenizer

IGNORED = -100
VOCABULARY = 16_384
BIN_TOKENS = 2048  # of rows packed side by side, unless one is longer


def measure_likelihood(
    decoder: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], references: Sequence[str], decoding: Decoding
) -> dict[int, dict[str, float]]:
    """`nll` (nats, summed over the reference's tokens) and `tokens` per item; the same on every rank.

    Prompt and reference are tokenised together, as in training; the end-of-turn mark is not counted.
    """
    rows = [_row(prompt, reference, tokenizer) for prompt, reference in zip(prompts, references, strict=True)]
    return measure_rows(decoder, rows, decoding)


def measure_rows(
    decoder: Decoder, rows: Sequence[Any], decoding: Decoding, *, packed: bool = True
) -> dict[int, dict[str, float]]:
    """`nll` and `tokens` of the labelled tokens of each row, which has `input_ids` and `labels` (-100: not counted).

    packed: False computes every row by itself, padded; the figures are equal, up to rounding.
    """
    found = _measure(decoder, [[row] for row in rows], decoding, packed)
    return {index: {"nll": nll, "tokens": float(n)} for index, [(nll, n)] in found.items()}


def measure_choices(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
    decoding: Decoding,
    *,
    packed: bool = True,
) -> dict[int, dict[str, float]]:
    """`nll:0`, `tokens:0`, `nll:1`, ... per item, one pair for each of its choices; the same on every rank.

    A token that belongs to the prompt and to the choice (many tokenizers join a space to the word after it) counts for
    the choice. packed: as for `measure_rows`.
    """
    questions = [
        _relabelled([_row(prompt, one, tokenizer) for one in listed])
        for prompt, listed in zip(prompts, choices, strict=True)
    ]
    found = _measure(decoder, questions, decoding, packed)
    return {index: _numbered(pairs) for index, pairs in found.items()}


def _measure(
    decoder: Decoder, groups: Sequence[Sequence[Any]], decoding: Decoding, packed: bool
) -> dict[int, list[tuple[float, int]]]:
    """Summed negative log-likelihood and number of the labelled tokens of each row of each group.

    A group's rows are computed in the same batch, because they have most in common.
    """
    packed = packed and _keeps_rows_apart(decoder)
    # the logits of all labelled tokens are held at once: a large vocabulary weighs more than the model's own states
    weight = max(1, decoder.config.get_text_config().vocab_size // VOCABULARY)

    def work(indices: Sequence[int]) -> list[list[tuple[float, int]]]:
        rows = [row for index in indices for row in groups[index]]
        measured = iter(packed_nll(rows, decoder) if packed else padded_nll(rows, decoder, decoding.pad_id))
        return [[next(measured) for _ in groups[index]] for index in indices]

    lengths = [sum(len(row.input_ids) for row in group) * weight for group in groups]
    return dealt(decoder, lengths, decoding.batching, work)


def _keeps_rows_apart(decoder: Decoder) -> bool:
    """Whether packed rows give the figures of single ones; sliding windows have masks of their own, as in training."""
    from core.packing import probe_isolated_attention, supports_isolated_attention

    supported = decoder.cached and decoder.positioned and supports_isolated_attention(decoder.config)[0]
    return supported and probe_isolated_attention(decoder.model)[0]


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


def packed_nll(rows: Sequence[Any], decoder: Decoder) -> list[tuple[float, int]]:
    """As `padded_nll`, with the rows laid out in as few tokens as they share and attention kept inside each row."""
    import torch

    from core.packing import collate_bins, kept_positions, move_batch, pack_step, pair_cost_of

    traced = [{"input_ids": list(row.input_ids), "labels": list(row.labels)} for row in rows]
    longest = max(len(row["input_ids"]) for row in traced)
    bins = pack_step(traced, max(BIN_TOKENS, longest), share_targets=True, pair_cost=pair_cost_of(decoder.config))[0]
    batch = move_batch(collate_bins(bins, decoder.config, dtype=next(decoder.model.parameters()).dtype), decoder.device)
    inputs, index = kept_positions(decoder.model, batch)
    with torch.no_grad():
        logits = decoder.model(**inputs).logits.flatten(0, -2).float()
    # several targets may follow one place, which is why the logits themselves are not multiplied
    nll = logits.logsumexp(-1)[index] - logits[index, batch["target_ids"]]
    counts = [sum(label != IGNORED for label in row["labels"][1:]) for row in traced]
    order = [row for b in bins for row in b.rows]
    parts = nll.split([counts[row] for row in order])
    sums = {row: float(part.double().sum()) for row, part in zip(order, parts, strict=True)}
    return [(sums.get(row, 0.0), count) for row, count in enumerate(counts)]


def padded_nll(rows: Sequence[Any], decoder: Decoder, pad_id: int) -> list[tuple[float, int]]:
    """Summed negative log-likelihood and number of the labelled tokens of each row, padded on the left."""
    import torch

    width = max(len(row.input_ids) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        start = width - len(row.input_ids)
        ids[index, start:] = torch.tensor(list(row.input_ids))
        labels[index, start + 1 :] = torch.tensor(list(row.labels[1:]))  # nothing predicts a row's first token
        mask[index, start:] = 1
    first = int((labels != IGNORED).any(0).int().argmax()) if bool((labels != IGNORED).any()) else width - 1
    keep = min(width, width - first + 1)  # the logits that predict the labelled tokens, and the last one
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    positions = positions.to(decoder.device)
    optional: dict[str, Any] = {"position_ids": positions, "logits_to_keep": keep, "use_cache": False}
    inputs = {"input_ids": ids.to(decoder.device), "attention_mask": mask.to(decoder.device)}
    inputs |= {name: value for name, value in optional.items() if name in decoder.accepts}
    with torch.no_grad():
        logits = decoder.model(**inputs).logits[:, -keep:].float()
    nll, counts = _summed(logits[:, :-1], labels[:, -keep:][:, 1:])
    return list(zip(nll, counts, strict=True))


def _summed(logits: Any, labels: Any) -> tuple[list[float], list[int]]:
    """Negative log-likelihood of the labels, summed per row, and how many there are. labels: [rows, tokens]."""
    import torch

    labels = labels.to(logits.device)
    # over the last dimension: over another one, torch sums a vocabulary one by one and is off by 1e-4 nats a token
    flat, wanted = logits.flatten(0, 1), labels.flatten()
    losses = torch.nn.functional.cross_entropy(flat, wanted, ignore_index=IGNORED, reduction="none").view(labels.shape)
    return losses.double().sum(1).tolist(), (labels != IGNORED).sum(1).tolist()
