"""The tokens that end the turns of a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ends:
    """The tokens that may end a turn. known: those that are said to; special: any other special token."""

    known: tuple[str, ...]
    special: tuple[str, ...]

    def find(self, text: str) -> str | None:
        """The beginning of `text`, which follows a content, to the end of its end-of-turn token; None without one.

        Another known token right after it, such as an end of text after an end of turn, is part of it.
        """
        places = [(text.find(token), token) for token in self.known if token in text]
        if places:
            place, token = min(places)
            return self._with_next(text, place + len(token), token)
        stripped = text.lstrip()
        for token in self.special:
            if stripped.startswith(token):
                return self._with_next(text, len(text) - len(stripped) + len(token), token)
        return None

    def _with_next(self, text: str, stop: int, found: str) -> str:
        rest = text[stop:].lstrip()
        following = next((token for token in self.known if token != found and rest.startswith(token)), "")
        return text[: len(text) - len(rest) + len(following)] if following else text[:stop]


def ends_of(tokenizer: Any, eot_tokens: tuple[str, ...]) -> Ends:
    """Those of a tokenizer; `eot_tokens` are the marks that the recipe names."""
    known = tuple(token for token in (*eot_tokens, tokenizer.eos_token) if token)
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    special = sorted({*added, *map(str, tokenizer.all_special_tokens)} - {tokenizer.bos_token}, key=len, reverse=True)
    return Ends(known, tuple(special))
