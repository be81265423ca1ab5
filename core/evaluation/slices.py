"""Parts of the held-out items by the values of a field, so that a gain on the whole hides no loss on a part."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.check.names import did_you_mean
from core.errors import DataError
from core.types import Item

Slices = Mapping[str, Mapping[str, Sequence[int]]]
MOST = 20  # values of a field that are shown apart; the rest stand together
MISSING = "(none)"


def slice_items(items: Sequence[Item], fields: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Field, then value, then the positions of its items; the values with the most items first.

    Beyond the first 20, values stand together as "(N others)"; items without the field as "(none)".
    Raises `DataError` for a field that no item has.
    """
    found: dict[str, dict[str, list[int]]] = {}
    for field in fields:
        parts: dict[str, list[int]] = {}
        for position, item in enumerate(items):
            parts.setdefault(_value(item, field), []).append(position)
        if items and set(parts) == {MISSING}:
            names = sorted({str(name) for item in items[:100] for name in item.row})
            near = did_you_mean(field, names)
            raise DataError(
                f"evaluation.slice_by names {field!r}, and no held-out row has such a field",
                help=f"{near + ' ' if near else ''}the rows have: {', '.join(names)}",
            )
        ranked = sorted(parts.items(), key=lambda part: -len(part[1]))
        found[field] = dict(ranked[:MOST])
        if rest := ranked[MOST:]:
            found[field][f"({len(rest)} others)"] = sorted(place for _, places in rest for place in places)
    return found


def _value(item: Item, field: str) -> str:
    value: Any = item.row
    if field in item.row:
        value = item.row[field]
    else:
        for name in field.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return MISSING
            value = value[name]
    if value is None or value == "":
        return MISSING
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
