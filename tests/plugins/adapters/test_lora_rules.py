from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from core import load_fragment
from plugins.adapters import lora
from tests.core.model_plans import make_model_plan


def problems(tmp_path: Path, **values: Any) -> list[Any]:
    return lora.check_recipe(make_model_plan(tmp_path, "m", **values).recipe)


@pytest.mark.parametrize(
    ("values", "message", "advice"),
    [
        ({"adapter": "qlora", "load_in_4bit": False}, "load_in_4bit is false", "adapter: lora"),
        ({"adapter": "qlora", "load_in_8bit": True}, "load_in_8bit is true", "remove load_in_8bit"),
        ({"adapter": "lora", "load_in_4bit": True}, "called qlora", "adapter: qlora"),
        ({"lora_target_linear": True, "lora_target_modules": ".*_proj"}, "cannot be joined", "list"),
        ({"lora_target_modules": "(q_proj"}, "no regular expression", "[q_proj, v_proj]"),
        ({"lora_target_parameters": ["experts.up"]}, "needs lora_dropout 0, not 0.05", "lora_dropout: 0"),
        ({"peft_init_lora_weights": "loftq"}, "'loftq' is not offered", "gaussian"),
        ({"peft_init_lora_weights": "eva"}, "pass over the data", "gaussian"),
        ({"adapter": "qlora", "peft_init_lora_weights": "pissa_niter_4"}, "packed", "gaussian"),
        ({"load_in_8bit": True, "peft_init_lora_weights": "olora"}, "packed", "gaussian"),
        ({"peft_use_dora": True, "peft_init_lora_weights": "pissa"}, "DoRA", "gaussian"),
    ],
)
def test_contradictions_are_found_by_the_check(
    values: dict[str, Any], message: str, advice: str, tmp_path: Path
) -> None:
    (problem,) = problems(tmp_path, **({"adapter": "lora"} | values))
    assert message in problem.message
    assert advice in str(problem.help)
    assert problem.severity == "error"
    assert problem.key[0] in values


def test_every_contradiction_is_found_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, adapter="qlora", load_in_4bit=False, load_in_8bit=True, peft_init_lora_weights="pissa")
    assert len(found) == 3


def test_quantisation_settings_without_quantisation_are_a_warning(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, adapter="lora", bnb_config_kwargs={"bnb_4bit_use_double_quant": True})
    assert problem.severity == "warning"


@pytest.mark.parametrize(
    "values",
    [
        {"adapter": "lora"},
        {
            "adapter": "lora",
            "load_in_4bit": False,
            "load_in_8bit": True,
            "bnb_config_kwargs": {"llm_int8_threshold": 0},
        },
        {"adapter": "qlora"},
        {"adapter": "qlora", "load_in_4bit": True, "load_in_8bit": False, "bnb_config_kwargs": {"a": 1}},
        {"adapter": "lora", "peft_init_lora_weights": "pissa_niter_16"},
        {"adapter": "full", "load_in_4bit": True, "peft_init_lora_weights": "loftq"},
    ],
)
def test_a_sound_recipe_or_another_adapter_has_no_problem(values: dict[str, Any], tmp_path: Path) -> None:
    assert problems(tmp_path, **values) == []


@pytest.mark.parametrize("name", ["lora", "full"])
def test_each_key_has_a_valid_schema_a_description_and_a_valid_default(name: str) -> None:
    fragment = load_fragment(name)
    assert fragment
    for key, schema in fragment.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["description"], key
        if "default" in schema:
            jsonschema.validate(schema["default"], schema)


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("lora_r", 16, 0),
        ("lora_alpha", 32, -1),
        ("lora_dropout", 0, 1),
        ("lora_target_modules", "model.layers.[0-3].*", []),
        ("peft_init_lora_weights", "pissa_niter_16", "pisa"),
        ("peft_layers_to_transform", [0, 1], [-1]),
    ],
)
def test_values_out_of_range_are_refused_by_the_schema(key: str, right: object, wrong: object) -> None:
    validator = jsonschema.Draft202012Validator(load_fragment("lora")[key])
    assert validator.is_valid(right)
    assert not validator.is_valid(wrong)
