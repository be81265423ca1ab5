from __future__ import annotations

from typing import Any

import pytest

from core.host import load_host
from core.testing.conformance import check_evaluator

OURS: dict[str, tuple[dict[str, Any], str]] = {
    "accuracy": ({}, "yes"),
    "token_f1": ({}, "yes"),
    "format_compliance": ({"regex": "yes|no"}, "yes"),
    "json_field": ({"field": "a"}, '{"a": 1}'),
    "json_fields": ({"fields": ["a"]}, '{"a": 1}'),
    "classification": ({"labels": ["yes", "no"]}, "yes"),
    "rouge": ({}, "yes"),
    "bleu": ({}, "yes"),
    "chrf": ({}, "yes"),
    "perplexity": ({}, "yes"),
    "latency": ({}, "yes"),
}


@pytest.mark.parametrize("name", OURS)
def test_the_evaluator_passes_the_conformance_kit(name: str) -> None:
    options, reference = OURS[name]
    check_evaluator(load_host().evaluators[name], options, reference=reference)


@pytest.mark.parametrize("name", OURS)
def test_every_option_is_described(name: str) -> None:
    evaluator = load_host().evaluators[name]
    assert evaluator.description
    for option, schema in evaluator.options_schema.items():
        assert schema.get("description"), f"{name}.{option}"
