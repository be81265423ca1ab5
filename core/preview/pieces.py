"""The tokens of an example as pieces of text: which are trained, and which are special."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.audit import CheckedExample
from core.data.tokenise import IGNORED

if TYPE_CHECKING:
    from core.types import Tokenizer

UNFINISHED = "\ufffd"
LONGEST_CHARACTER = 6  # tokens that one character may take


@dataclass(frozen=True)
class Piece:
    """One token, or the few that make up one character. text: as it stands in the example."""

    text: str
    trained: bool
    special: bool


def special_texts(tokenizer: Tokenizer) -> Mapping[int, str]:
    """The special tokens by their ids."""
    added = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {**added, **dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))}


def pieces_of(
    example: CheckedExample, tokenizer: Tokenizer, special: Mapping[int, str], known: dict[int, str] | None = None
) -> list[Piece]:
    """The pieces of `example`; together they are its text, and what the tokenizer put around it.

    known: the texts of single tokens, to be filled and handed in again: decoding them anew takes most of the time.
    """
    known = {} if known is None else known
    ids = example.input_ids.tolist()
    trained = (example.labels != IGNORED).tolist()
    pieces = []
    at = 0
    while at < len(ids):
        if ids[at] in special:
            pieces.append(Piece(special[ids[at]], trained[at], True))
            at += 1
            continue
        end = at + 1
        text = known.get(ids[at], "")
        if not text:
            text = known[ids[at]] = _decoded(ids[at:end], tokenizer)
        # a character of several tokens cannot be shown in parts
        while text.endswith(UNFINISHED) and end < len(ids) and end - at < LONGEST_CHARACTER and ids[end] not in special:
            end += 1
            text = _decoded(ids[at:end], tokenizer)
        pieces.append(Piece(text, trained[at], False))
        at = end
    return pieces


def _decoded(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    text = str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
    first = tokenizer.convert_ids_to_tokens(ids[0])
    # decoders of SentencePiece vocabularies leave out the space at the beginning of a text
    return f" {text}" if str(first).startswith("\u2581") and not text.startswith(" ") else text
