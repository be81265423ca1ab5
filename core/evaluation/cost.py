"""What the answers of a column cost at stated prices, by tokens or by the hours of a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PER_TOKEN = ("input_per_million", "output_per_million")
PER_HOUR = "per_hour"


def cost_facts(
    price: Mapping[str, Any] | None, column: str, *, tokens_in: int, tokens_out: int, items: int, seconds: float
) -> dict[str, Any]:
    """Tokens in and out of a column and, where its price is stated, the cost of 1,000 answers; to be stated beside its
    figures. A column without a price of its own or of all columns costs nothing that is known.

    tokens_in, tokens_out: of all prompts and of all answers. seconds: what generating them took, in batches.
    """
    found: dict[str, Any] = {"tokens_in": tokens_in, "tokens_out": tokens_out}
    if not price or not items:
        return found
    own = price.get("columns", {}).get(column, {})
    used = {key: value for key, value in {**price, **own}.items() if key != "columns"}
    if PER_HOUR in own:  # a column's own kind of price stands in place of the other kind
        used = {key: value for key, value in used.items() if key not in PER_TOKEN}
    elif any(key in own for key in PER_TOKEN):
        used.pop(PER_HOUR, None)
    if not any(key in used for key in (*PER_TOKEN, PER_HOUR)):
        return found
    spent = seconds / 3600 * used.get(PER_HOUR, 0.0)
    spent += tokens_in / 1e6 * used.get(PER_TOKEN[0], 0.0) + tokens_out / 1e6 * used.get(PER_TOKEN[1], 0.0)
    return {**found, "cost_per_1000": 1000 * spent / items, "currency": used.get("currency", "USD"), "price": used}
