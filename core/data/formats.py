"""What dataset formats share: reading a text field of a row, and the token that ends a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.errors import RowError, UserError
from core.types import Row

if TYPE_CHECKING:
    from core.types import Tokenizer


def text_field(row: Row, field: str, *, may_be_empty: bool = False) -> str:
    """The text in `row[field]`. Raises `KeyError` if it is missing, `RowError` if it is null, not text, or empty."""
    value = row[field]
    if not isinstance(value, str):
        raise RowError(f"field {field!r} is {describe(value)}, not text", field=field)
    if not value.strip() and not may_be_empty:
        raise RowError(f"field {field!r} is empty", field=field)
    return value


def optional_text_field(row: Row, field: str) -> str:
    """Like `text_field`, but a missing, null or empty field is the empty text."""
    return "" if row.get(field) is None else text_field(row, field, may_be_empty=True)


def describe(value: Any) -> str:
    """What kind of value this is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value!r}"
    kinds: dict[type, str] = {list: "a list", dict: "an object", bytes: "bytes"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def end_of_text(tokenizer: Tokenizer) -> str:
    """The token that ends a text. Raises `UserError` if the tokenizer has none."""
    if not tokenizer.eos_token:
        raise UserError(
            "the tokenizer has no end-of-text token, so the model could not learn to stop",
            help="name one of its tokens in the recipe: special_tokens: {eos_token: ...}",
        )
    return str(tokenizer.eos_token)
