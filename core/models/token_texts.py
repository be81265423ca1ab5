"""New texts for tokens that a vocabulary sets aside, such as `<|reserved_token_1|>`: `added_tokens_overrides`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import Problem, RecipeError, UserError
from core.models.loading import quiet

if TYPE_CHECKING:
    from core.types import Tokenizer

KEY = "added_tokens_overrides"


def renamed(tokenizer: Tokenizer, texts: Mapping[Any, str]) -> Tokenizer:
    """A tokenizer that reads and writes the tokens with these numbers as these texts; the numbers stay.

    Raises `RecipeError` for a number that is no added token, or a text that another token has.
    """
    from transformers import AutoTokenizer

    wanted = {int(number): text for number, text in texts.items()}
    added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
    _refuse(wanted, added, tokenizer)
    old = {added[number]: text for number, text in wanted.items()}
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as name, quiet():
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        if not (folder / "tokenizer.json").is_file():
            raise UserError(f"{KEY} needs a tokenizer with a tokenizer.json", help=f"remove {KEY}")
        for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            path = folder / file
            if path.is_file():
                path.write_text(json.dumps(_replaced(json.loads(path.read_text("utf-8")), old)), encoding="utf-8")
        loaded: Tokenizer = AutoTokenizer.from_pretrained(folder)
    return loaded


def _refuse(wanted: Mapping[int, str], added: Mapping[int, str], tokenizer: Tokenizer) -> None:
    problems = []
    vocabulary = tokenizer.get_vocab()
    for number, text in wanted.items():
        if number not in added:
            known = ", ".join(map(str, sorted(added)[:5]))
            message = f"token {number} is not one of the tokens added to the vocabulary"
            problems.append(Problem(message, key=(KEY,), at="value", help=f"they are {known}, ..."))
        elif vocabulary.get(text, number) != number:
            message = f"{text!r} is token {vocabulary[text]} already"
            problems.append(Problem(message, key=(KEY,), at="value", help="choose another text, or leave it out"))
    if problems:
        raise RecipeError(problems)


def _replaced(value: Any, old: Mapping[str, str]) -> Any:
    """A JSON value with the old texts replaced, as keys (of the vocabulary) and as whole values."""
    if isinstance(value, dict):
        return {old.get(key, key): _replaced(entry, old) for key, entry in value.items()}
    if isinstance(value, list):
        return [_replaced(entry, old) for entry in value]
    return old.get(value, value) if isinstance(value, str) else value
