"""Ids of texts by the words they are made of: each word is tokenised once.

A byte-level vocabulary merges bytes within words alone, so equal words have equal ids wherever they stand. Where words
begin and end is decided by a pattern in the tokenizer. For the patterns that most models have, texts are split here
and their words looked up, which takes a fifth of the processor time of the tokenizer's own way. That a pattern does
here what it does there is known for letters and signs whose class is the same in every version of Unicode that is in
use: Latin ones, and general punctuation. Other texts, and other tokenizers, are none of this module's business.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable
from functools import lru_cache
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

from core.data.seams import byte_lengths, settings_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from core.types import Tokenizer

Encode = Callable[[str], "NDArray[np.int32] | None"]

RANGES = (range(0x250), range(0x2000, 0x2070))  # Latin, general punctuation
MOST_WORDS, LONGEST_WORD = 1 << 17, 64  # what is kept of words, some 30 MB at most
# how vocabularies write their patterns. {L}, {N}, {S}: the letters, numbers and spaces among RANGES
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False}


def word_encoder(tokenizer: Tokenizer) -> Encode | None:
    """What gives the ids of a text, or None for a text that the tokenizer has to be asked for; None for a tokenizer
    whose words are not known."""
    return _word_encoder(tokenizer, len(tokenizer)) if byte_lengths(tokenizer) is not None else None


@lru_cache(maxsize=4)
def _word_encoder(tokenizer: Tokenizer, size: int) -> Encode | None:
    """size: of the vocabulary, so that a tokenizer that has got new tokens is looked at anew."""
    backend: Any = tokenizer.backend_tokenizer
    pattern = _pattern(settings_of(backend.pre_tokenizer))
    added = list(backend.get_added_tokens_decoder().values())
    plain = not any(token.single_word or token.lstrip or token.rstrip for token in added)
    one_kind = len({token.normalized for token in added}) < 2  # the others are looked for in what these leave
    fixed = type(backend.model).__name__ == "BPE" and not backend.model.dropout
    if pattern is None or not plain or not one_kind or not fixed or backend.encode_special_tokens:
        return None
    return _encoder(backend, re.compile(pattern), sorted((token.content for token in added), key=len, reverse=True))


def _encoder(backend: Any, pattern: re.Pattern[str], added: list[str]) -> Encode:
    """added: the tokens that are found before words are, the longest first."""
    import numpy as np

    find, ids = pattern.findall, _Ids(backend)
    apart = re.compile(f"({'|'.join(map(re.escape, added))})").split if added else lambda text: [text]
    known = re.compile(f"[{_class(lambda char: True)}]*").fullmatch

    def encode(text: str) -> NDArray[np.int32] | None:
        if not text.isascii() and not (known(text) and unicodedata.is_normalized("NFC", text)):
            return None
        parts = apart(text)
        if len(parts) == 1:
            words = find(text)
        else:
            words = list(chain.from_iterable([[part] if at & 1 else find(part) for at, part in enumerate(parts)]))
        return np.frombuffer(b"".join([ids[word] for word in words]), dtype=np.int32)

    return encode


class _Ids(dict[str, bytes]):
    """The ids of words, as the bytes of int32; a word that is not there is asked of the tokenizer."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __missing__(self, word: str) -> bytes:
        ids = array("i", self._backend.encode(word, add_special_tokens=False).ids).tobytes()
        if len(word) <= LONGEST_WORD:
            if len(self) >= MOST_WORDS:
                self.clear()
            self[word] = ids
        return ids


def _pattern(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """The pattern of the words of a text without added tokens, for the letters in RANGES; None if it is not known."""
    if pre_tokenizer is None:
        return None
    parts = [
        {key: value for key, value in part.items() if key != "trim_offsets"}
        for part in pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    ]
    by_itself = {**BYTE_LEVEL, "use_regex": True}
    # no other part of the pattern begins with a letter: what most words fit is tried first
    gpt2 = r" ?\p{L}+|" + GPT2.replace(r"| ?\p{L}+", "")
    if parts == [by_itself]:
        return _spelt(gpt2)
    if parts == [{"type": "Digits", "individual_digits": True}, by_itself]:
        # digits part the text first, so that a space before one stands at an end
        return _spelt(gpt2.replace(r" ?\p{N}+", r"\p{N}").replace(r"(?!\S)", r"(?![^\s\p{N}])"))
    for written, ours in ((GPT2, gpt2), (LLAMA3, LLAMA3), (QWEN2, QWEN2)):
        split = {"type": "Split", "pattern": {"Regex": written}, "behavior": "Isolated", "invert": False}
        if parts == [split, {**BYTE_LEVEL, "use_regex": False}]:
            return _spelt(ours)
    return None


def _spelt(pattern: str) -> str:
    """`pattern` with its classes of characters spelt out, in square brackets or by themselves."""
    letters = _class(lambda char: unicodedata.category(char)[0] == "L")
    numbers = _class(lambda char: unicodedata.category(char)[0] == "N")
    # Python counts the four separators of ASCII as spaces, Unicode does not
    spaces = _class(lambda char: char.isspace() and not "\x1c" <= char <= "\x1f")
    named = {r"\p{L}": letters, r"\p{N}": numbers, r"\s": spaces}
    made, inside = "", False
    for piece in re.findall(r"\\p\{[LN]\}|\\[sS]|\\.|.", pattern):
        if piece == r"\S":
            made += f"[^{spaces}]"
        elif piece in named:
            made += named[piece] if inside else f"[{named[piece]}]"
        else:
            inside = piece == "[" or (inside and piece != "]")
            made += piece
    return made


def _class(wanted: Callable[[str], bool]) -> str:
    """The inside of the square brackets for those characters in RANGES that are `wanted`."""
    codes = [code for code in chain(*RANGES) if wanted(chr(code))]
    runs = [list(run) for _, run in groupby(enumerate(codes), lambda pair: pair[1] - pair[0])]
    return "".join(f"\\u{run[0][1]:04x}-\\u{run[-1][1]:04x}" for run in runs)
