"""From segments of text to token ids and labels.

The joined text is tokenised once, as inference will see it; a token belongs to the segment it starts in. A token that
reaches over a seam between trained and untrained text is counted as straddling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.data.seams import Seam, byte_lengths, find_seams
from core.data.words import word_encoder
from core.errors import RowError
from core.types import Example, Segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from core.types import Tokenizer

IGNORED = -100


@dataclass(frozen=True)
class Tokenized:
    """One example as ids. labels: equal length, -100 where not trained. straddling: tokens that reach over a seam."""

    input_ids: list[int]
    labels: list[int]
    straddling: int = 0


@dataclass(frozen=True, slots=True)
class Arrays:
    """The same as `Tokenized`, in int32 arrays."""

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    straddling: int = 0


def tokenize_example(example: Example, tokenizer: Tokenizer) -> Tokenized:
    """`example` as ids and labels; never two BOS. Raises `RowError` for pre-tokenised rows of unequal lengths."""
    return tokenize_examples([example], tokenizer)[0]


def tokenize_examples(examples: Sequence[Example], tokenizer: Tokenizer) -> list[Tokenized]:
    """Like `tokenize_example` for many, in one call of the tokenizer."""
    made = label_examples(examples, encode_texts(texts_of(examples), tokenizer), tokenizer)
    return [Tokenized(one.input_ids.tolist(), one.labels.tolist(), one.straddling) for one in made]


def texts_of(examples: Sequence[Example]) -> list[str]:
    """The texts that have to be tokenised: those of all examples that did not come as ids."""
    return [joined(example) for example in examples if example.input_ids is None]


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer) -> list[Any]:
    """What the tokenizer makes of `texts`: int32 arrays of ids where places follow from bytes, as nothing else is asked
    then and encodings take a hundred bytes for each token; else the library's encodings, or lists of ids."""
    import numpy as np

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [list(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    # an earlier call of the tokenizer may have left these set; another thread may be at work with them
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    if byte_lengths(tokenizer) is None:
        return list(backend.encode_batch(list(texts), add_special_tokens=False))
    by_words = word_encoder(tokenizer)
    made = [None if by_words is None else by_words(text) for text in texts]
    # the library encodes on all cores, with Python's lock released; without offsets, in six sevenths of the time
    left = [text for text, ids in zip(texts, made, strict=True) if ids is None]
    asked = iter(backend.encode_batch_fast(left, add_special_tokens=False))
    return [np.array(next(asked).ids, dtype=np.int32) if ids is None else ids for ids in made]


def label_examples(examples: Sequence[Example], encodings: Sequence[Any], tokenizer: Tokenizer) -> list[Arrays]:
    """The examples as ids and labels, given the encodings of their texts.

    Raises `RowError` for pre-tokenised rows of unequal lengths.
    """
    import numpy as np

    prefix = leading_ids(tokenizer)
    written = [example for example in examples if example.input_ids is None]
    texts = [joined(example) for example in written]
    ids = [np.asarray(getattr(encoding, "ids", encoding), dtype=np.int32) for encoding in encodings]
    turns = [_turns(example.segments) for example in written]
    seams = find_seams(texts, encodings, ids, turns, tokenizer)
    made = iter([_labelled(row, found, prefix) for row, found in zip(ids, seams, strict=True)])
    return [_given(example) if example.input_ids is not None else next(made) for example in examples]


def encode_prompt(text: str, tokenizer: Tokenizer) -> list[int]:
    """`text` as ids, with the same BOS rule as in training."""
    return encode_prompts([text], tokenizer)[0]


def encode_prompts(texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """Like `encode_prompt` for many, in one call of the tokenizer."""
    return [ids.tolist() for ids in prompt_ids(texts, tokenizer)]


def prompt_ids(texts: Sequence[str], tokenizer: Tokenizer) -> list[NDArray[np.int32]]:
    """Like `encode_prompts`, as arrays."""
    import numpy as np

    prefix = leading_ids(tokenizer)
    made = (np.asarray(getattr(one, "ids", one), dtype=np.int32) for one in encode_texts(texts, tokenizer))
    return [
        np.concatenate([np.array(missing, dtype=np.int32), ids])
        if (missing := _missing_prefix(ids[: len(prefix)].tolist(), prefix))
        else ids
        for ids in made
    ]


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


def _given(example: Example) -> Arrays:
    """A row that came tokenised, as it is."""
    import numpy as np

    ids = np.array(example.input_ids or (), dtype=np.int32)
    labels = ids if example.labels is None else np.array(example.labels, dtype=np.int32)
    if len(ids) != len(labels):
        raise RowError(f"input_ids has {len(ids)} entries, labels has {len(labels)}", field="labels")
    return Arrays(ids, labels)


def _turns(segments: Sequence[Segment]) -> list[int]:
    """Where trained text begins and ends, by turns, in characters."""
    places = []
    position, trained = 0, False
    for segment in segments:
        if segment.text and segment.trained != trained:
            places.append(position)
            trained = segment.trained
        position += len(segment.text)
    return places


def _labelled(ids: NDArray[np.int32], seams: Sequence[Seam], prefix: list[int]) -> Arrays:
    """Labels for `ids`: trained from the first seam to the second, from the third to the fourth, and so on."""
    import numpy as np

    missing = _missing_prefix(ids[: len(prefix)].tolist(), prefix)
    labels = np.full(len(ids) + len(missing), IGNORED, dtype=np.int32)
    starts, ends = seams[::2], [*seams[1::2], (len(ids), False)]
    for (start, _), (end, _) in zip(starts, ends, strict=False):
        labels[len(missing) + start : len(missing) + end] = ids[start:end]
    if missing:
        ids = np.concatenate([np.array(missing, dtype=np.int32), ids])
    return Arrays(ids, labels, sum(over for _, over in seams))
