from __future__ import annotations

from typing import Any

import pytest

from core.evaluation.cost import cost_facts

COUNTS: dict[str, Any] = {"tokens_in": 2000, "tokens_out": 500, "items": 10, "seconds": 36.0}


def test_without_a_price_the_tokens_are_counted() -> None:
    assert cost_facts(None, "base", **COUNTS) == {"tokens_in": 2000, "tokens_out": 500}


def test_prices_per_token() -> None:
    found = cost_facts({"input_per_million": 1.0, "output_per_million": 4.0}, "base", **COUNTS)
    assert found["cost_per_1000"] == pytest.approx(1000 * (2000e-6 + 4 * 500e-6) / 10)
    assert found["currency"] == "USD"


def test_a_price_per_hour_counts_the_seconds() -> None:
    found = cost_facts({"per_hour": 2.0, "currency": "EUR"}, "base", **COUNTS)
    assert found["cost_per_1000"] == pytest.approx(1000 * 2.0 * 36 / 3600 / 10)
    assert found["currency"] == "EUR"


def test_a_columns_own_kind_of_price_takes_the_place_of_the_other() -> None:
    price = {"input_per_million": 1.0, "output_per_million": 4.0, "columns": {"tuned": {"per_hour": 2.0}}}
    assert cost_facts(price, "tuned", **COUNTS)["price"] == {"per_hour": 2.0}
    assert cost_facts(price, "tuned", **COUNTS)["cost_per_1000"] == pytest.approx(2.0)
    other = {"per_hour": 2.0, "columns": {"big": {"input_per_million": 10.0}}}
    assert cost_facts(other, "big", **COUNTS)["cost_per_1000"] == pytest.approx(1000 * 10 * 2000e-6 / 10)


def test_a_column_that_no_price_is_stated_for_is_not_free_of_charge() -> None:
    price = {"currency": "EUR", "columns": {"tuned": {"per_hour": 2.0}, "merged": {}}}
    for column in ("base", "merged"):
        assert cost_facts(price, column, **COUNTS) == {"tokens_in": 2000, "tokens_out": 500}
    assert cost_facts(price, "tuned", **COUNTS)["cost_per_1000"] == pytest.approx(2.0)
