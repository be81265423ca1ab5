"""Items made by hand for the tests of metrics."""

from __future__ import annotations

from typing import Any

from core.types import Item


def item(reference: str, *, index: int = 0, facts: dict[str, float] | None = None, **row: Any) -> Item:
    return Item(index, row, "Question?", (reference,), f"test.jsonl:{index + 1}", facts or {})
