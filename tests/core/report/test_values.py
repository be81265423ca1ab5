from __future__ import annotations

from typing import Any

import jsonschema

from core import load_fragment
from core.report.values import _finite, without_secrets


def test_the_example_fits_the_schema_of_run_json(values: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(load_fragment("run")).validate(values)


def test_secrets_are_masked_and_vocabulary_tokens_are_not() -> None:
    masked = without_secrets(
        {
            "hub_token": "hf_abc",
            "wandb_api_key": "k",
            "special_tokens": {"pad_token": "<pad>"},
            "secrets": ["A"],
            "nested": [{"db_password": "x"}],
        }
    )
    assert masked == {
        "hub_token": "***",
        "wandb_api_key": "***",
        "special_tokens": {"pad_token": "<pad>"},
        "secrets": "***",
        "nested": [{"db_password": "***"}],
    }


def test_numbers_that_json_cannot_hold_become_null() -> None:
    assert _finite({"a": [float("nan"), 1.0, float("inf")], "b": "nan"}) == {"a": [None, 1.0, None], "b": "nan"}
