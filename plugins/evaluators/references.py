"""All acceptable answers of an item: the one of its format, and those that a field of its row adds."""

from __future__ import annotations

from typing import Any

from core import Item, RowError
from core.types import Options

OPTION: dict[str, Any] = {
    "references": {
        "type": "string",
        "minLength": 1,
        "description": "A field of the row with further acceptable answers: a text, a number, or a list of them.",
    }
}


def acceptable(item: Item, options: Options) -> tuple[str, ...]:
    """The references of `item`, the format's own first. Raises `RowError` where the named field cannot be one."""
    field = options.get("references")
    if not field:
        return item.references
    if field not in item.row:
        raise RowError(f"the row has no field {field!r}", field=field)
    value = item.row[field]
    listed = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(entry, (str, int, float)) and not isinstance(entry, bool) for entry in listed):
        raise RowError(f"the field {field!r} holds {value!r}, not a text or a list of texts", field=field)
    return (*item.references, *(str(entry) for entry in listed))


def check(item: Item, options: Options) -> None:
    """Raise `RowError` for an item without the field that `references` names."""
    acceptable(item, options)
