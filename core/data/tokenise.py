"""From segments of text to token ids and labels.

The joined text is tokenised once, as inference will see it; a token belongs to the segment it starts in. A token that
reaches over a seam between trained and untrained text is counted as straddling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import RowError
from core.types import Example, Segment

if TYPE_CHECKING:
    from core.types import Tokenizer

IGNORED = -100
SPACE_MARKS = ("\u0120", "\u2581")  # how byte-level and SentencePiece vocabularies write a leading space


@dataclass(frozen=True)
class Tokenized:
    """One example as ids. labels: equal length, -100 where not trained. straddling: tokens that reach over a seam."""

    input_ids: list[int]
    labels: list[int]
    straddling: int = 0


def tokenize_example(example: Example, tokenizer: Tokenizer) -> Tokenized:
    """`example` as ids and labels; never two BOS. Raises `RowError` for pre-tokenised rows of unequal lengths."""
    return tokenize_examples([example], tokenizer)[0]


def tokenize_examples(examples: Sequence[Example], tokenizer: Tokenizer) -> list[Tokenized]:
    """Like `tokenize_example` for many, in one call of the tokenizer."""
    texts = [joined(example) for example in examples if example.input_ids is None]
    encoded = iter(_encode(texts, tokenizer))
    prefix = leading_ids(tokenizer)
    return [
        _given(example) if example.input_ids is not None else _labelled(example.segments, next(encoded), prefix)
        for example in examples
    ]


def encode_prompt(text: str, tokenizer: Tokenizer) -> list[int]:
    """`text` as ids, with the same BOS rule as in training."""
    return encode_prompts([text], tokenizer)[0]


def encode_prompts(texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """Like `encode_prompt` for many, in one call of the tokenizer."""
    prefix = leading_ids(tokenizer)
    return [[*_missing_prefix(encoded.ids, prefix), *encoded.ids] for encoded in _encode(texts, tokenizer)]


def joined(example: Example) -> str:
    """The whole text of an example."""
    return "".join(segment.text for segment in example.segments)


def leading_ids(tokenizer: Tokenizer) -> list[int]:
    """The special ids (BOS, as a rule) that the tokenizer by itself puts in front of a text."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    full = tokenizer.encode("a", add_special_tokens=True)
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return list(full[:start])
    return []


def end_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that can end a turn: the special tokens, save those that begin a text."""
    added = [index for index, token in tokenizer.added_tokens_decoder.items() if token.special]
    return frozenset({*tokenizer.all_special_ids, *added} - set(leading_ids(tokenizer)))


def _missing_prefix(ids: Sequence[int], prefix: list[int]) -> list[int]:
    return [] if list(ids[: len(prefix)]) == prefix else prefix


def _given(example: Example) -> Tokenized:
    """A row that came tokenised, as it is."""
    ids = list(example.input_ids or ())
    labels = list(ids if example.labels is None else example.labels)
    if len(ids) != len(labels):
        raise RowError(f"input_ids has {len(ids)} entries, labels has {len(labels)}", field="labels")
    return Tokenized(ids, labels)


@dataclass(frozen=True)
class _Encoded:
    """A tokenised text. seam(position) -> (index of the first token that starts at or after it, whether one straddles
    it)."""

    ids: list[int]
    seam: Callable[[int], tuple[int, bool]]


def _labelled(segments: Sequence[Segment], encoded: _Encoded, prefix: list[int]) -> Tokenized:
    ids = encoded.ids
    labels = [IGNORED] * len(ids)
    straddling = 0
    position = start = 0
    trained = False
    for segment in segments:
        if segment.text and segment.trained != trained:
            index, reaches_over = encoded.seam(position)
            straddling += reaches_over
            if trained:
                labels[start:index] = ids[start:index]
            start, trained = index, segment.trained
        position += len(segment.text)
    if trained:
        labels[start:] = ids[start:]
    missing = _missing_prefix(ids, prefix)
    return Tokenized([*missing, *ids], [IGNORED] * len(missing) + labels, straddling)


def _encode(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[_Encoded]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return (_encode_slowly(text, tokenizer) for text in texts)
    # an earlier call of the tokenizer may have left these set
    backend.no_truncation()
    backend.no_padding()
    encodings = backend.encode_batch(list(texts), add_special_tokens=False)
    return (
        _Encoded(encoding.ids, _seam_finder(encoding, len(text)))
        for encoding, text in zip(encodings, texts, strict=True)
    )


def _seam_finder(encoding: Any, length: int) -> Callable[[int], tuple[int, bool]]:
    def seam(position: int) -> tuple[int, bool]:
        if position == 0:
            return 0, False
        at = position
        while at < length:
            token = encoding.char_to_token(at)
            if token is not None:
                break
            at += 1  # a character that no token covers
        else:
            return len(encoding.ids), False
        start, _ = encoding.token_to_chars(token)
        if start < position:
            # all tokens of one character have the same span: the first that starts later is sought
            while token < len(encoding.ids) and encoding.token_to_chars(token)[0] < position:
                token += 1
            return token, True
        spaced = encoding.char_to_token(position - 1) is None and encoding.tokens[token].startswith(SPACE_MARKS)
        # the space before the token is part of it, though the tokenizer's offsets leave it out
        return (token + 1, True) if spaced else (token, False)

    return seam


def _encode_slowly(text: str, tokenizer: Tokenizer) -> _Encoded:
    """For tokenizers without offsets: a seam lies where the ids of the text before it stop being a prefix of all."""
    ids = list(tokenizer.encode(text, add_special_tokens=False))

    def seam(position: int) -> tuple[int, bool]:
        before = tokenizer.encode(text[:position], add_special_tokens=False)
        same = next(
            (i for i, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), min(len(before), len(ids))
        )
        return (same, False) if same == len(before) else (same + 1, True)

    return _Encoded(ids, seam)
