"""Where the segments of a text begin among its tokens.

A token belongs to the segment it starts in. Byte-level vocabularies, which most models have, spell out the bytes that a
token stands for, so the places follow from their lengths for many texts at once; where these do not add up to the text,
and for all other vocabularies, the tokenizer's offsets are asked.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from core.types import Tokenizer

    Ints = NDArray[np.int64]

SPACE_MARKS = ("\u0120", "\u2581")  # how byte-level and SentencePiece vocabularies write a leading space
# (index of the first token that starts at or after a place, whether a token reaches over it)
Seam = tuple[int, bool]


def find_seams(
    texts: Sequence[str],
    encodings: Sequence[Any],
    ids: Sequence[NDArray[np.int32]],
    places: Sequence[Sequence[int]],
    tokenizer: Tokenizer,
) -> list[list[Seam]]:
    """The seams of each text at its `places` (characters from its start, rising)."""
    known = byte_lengths(tokenizer)
    if known is None:
        asked = zip(encodings, texts, places, strict=True)
        return [_asked(encoding, text, wanted, tokenizer) for encoding, text, wanted in asked]
    return [
        seams if seams is not None else _asked(_with_offsets(text, tokenizer), text, wanted, tokenizer)
        for seams, text, wanted in zip(by_bytes(texts, ids, places, *known), texts, places, strict=True)
    ]


def _with_offsets(text: str, tokenizer: Tokenizer) -> Any:
    """The encoding of a text whose bytes do not tell the places; many are encoded without offsets first."""
    backend: Any = tokenizer.backend_tokenizer
    return backend.encode(text, add_special_tokens=False)


def _asked(encoding: Any, text: str, places: Sequence[int], tokenizer: Tokenizer) -> list[Seam]:
    if isinstance(encoding, list):
        return [by_prefix(text, tokenizer, encoding, place) for place in places]
    return [by_offsets(encoding, len(text), place) for place in places]


def by_bytes(
    texts: Sequence[str],
    ids: Sequence[NDArray[np.int32]],
    places: Sequence[Sequence[int]],
    lengths: Ints,
    composed: bool,
) -> list[list[Seam] | None]:
    """The seams of those texts whose tokens' bytes are as many as the text's; None for the others.

    lengths, composed: as `byte_lengths` says.
    """
    import numpy as np

    nothing = np.zeros(0, dtype=np.int64)
    ends = np.cumsum(lengths[np.concatenate([nothing, *ids])])
    starts = np.concatenate([[0], ends])  # where each token starts, through all texts; then the end of the last
    first = np.cumsum([0, *map(len, ids)])
    offsets = starts[first].tolist()
    firsts = first.tolist()
    wanted: list[int] = []
    sure = []
    for number, (text, given) in enumerate(zip(texts, places, strict=True)):
        base = offsets[number]
        if text.isascii():
            size, in_bytes = len(text), given
        else:
            size = len(text.encode())
            in_bytes = [len(text[:place].encode()) for place in given]
        sure.append(size == offsets[number + 1] - base and (not composed or unicodedata.is_normalized("NFC", text)))
        wanted += [base + place for place in in_bytes]
    index = np.searchsorted(starts, wanted, side="left")
    over = (starts[index] != wanted).tolist()
    tokens = index.tolist()
    found: list[list[Seam] | None] = []
    at = 0
    for number, given in enumerate(places):
        here = range(at, at + len(given))
        found.append([(tokens[n] - firsts[number], over[n]) for n in here] if sure[number] else None)
        at += len(given)
    return found


def byte_lengths(tokenizer: Tokenizer) -> tuple[Ints, bool] | None:
    """How many bytes each token id stands for, and whether texts are composed (NFC) first; None for a vocabulary that
    is not byte-level."""
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return None
    return _byte_lengths(tokenizer, len(tokenizer))


@lru_cache(maxsize=4)
def _byte_lengths(tokenizer: Tokenizer, size: int) -> tuple[Ints, bool] | None:
    """size: of the vocabulary, so that a tokenizer that has got new tokens is looked at anew."""
    import numpy as np

    backend: Any = tokenizer.backend_tokenizer
    # asked part by part: the whole would spell out the vocabulary
    normaliser = (settings_of(backend.normalizer) or {"type": None})["type"]
    if not _holds_byte_level(settings_of(backend.pre_tokenizer)) or normaliser not in (None, "NFC"):
        return None
    vocabulary = backend.get_vocab(with_added_tokens=True)
    lengths = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    for token, index in vocabulary.items():
        lengths[index] = len(token)  # each character of a token stands for one byte
    for index, token in backend.get_added_tokens_decoder().items():
        lengths[index] = len(token.content.encode())
    return lengths, normaliser == "NFC"


def token_bytes(tokenizer: Tokenizer) -> NDArray[np.object_] | None:
    """The bytes that each token id stands for, which joined are what the tokenizer decodes ids to; None for a
    vocabulary that is not byte-level."""
    if byte_lengths(tokenizer) is None:
        return None
    return _token_bytes(tokenizer, len(tokenizer))


@lru_cache(maxsize=4)
def _token_bytes(tokenizer: Tokenizer, size: int) -> NDArray[np.object_] | None:
    import numpy as np

    backend: Any = tokenizer.backend_tokenizer
    if (settings_of(backend.decoder) or {"type": None})["type"] != "ByteLevel":
        return None
    # bytes that are no printing characters of Latin-1 are written as those from 256 on, in their order
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printing]
    code = {chr(byte): byte for byte in printing} | {chr(256 + at): byte for at, byte in enumerate(others)}
    vocabulary = backend.get_vocab(with_added_tokens=False)
    added = backend.get_added_tokens_decoder()
    made = [b""] * (max(*vocabulary.values(), *added) + 1)
    for token, index in vocabulary.items():
        made[index] = bytes([code[char] for char in token]) if code.keys() >= set(token) else token.encode()
    for index, token in added.items():
        made[index] = token.content.encode()
    return np.array(made, dtype=object)


def settings_of(part: Any) -> dict[str, Any] | None:
    """How a part of a tokenizer is set, as its file has it."""
    made: dict[str, Any] | None = None if part is None else json.loads(part.__getstate__())
    return made


def _holds_byte_level(pre_tokenizer: dict[str, Any] | None) -> bool:
    if pre_tokenizer is None:
        return False
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return any(part["type"] == "ByteLevel" and not part["add_prefix_space"] for part in parts)


def by_offsets(encoding: Any, length: int, position: int) -> Seam:
    """The seam at `position` of a text of `length` characters, by the tokenizer's offsets."""
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


def by_prefix(text: str, tokenizer: Tokenizer, ids: Sequence[int], position: int) -> Seam:
    """The same for tokenizers without offsets: a seam lies where the ids of the text before it stop being a prefix."""
    before = tokenizer.encode(text[:position], add_special_tokens=False)
    same = next((i for i, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), min(len(before), len(ids)))
    return (same, False) if same == len(before) else (same + 1, True)
