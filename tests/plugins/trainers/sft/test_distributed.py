from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from core import UserError
from plugins.trainers.sft.distributed import deepspeed_settings, sharding
from tests.core.plans import make_test_plan

FSDP = {
    "fsdp": ["full_shard", "auto_wrap"],
    "fsdp_config": {"fsdp_offload_params": True, "state_dict_type": "SHARDED_STATE_DICT"},
}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the launcher would have set."""

    def launch(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "FSDP_VERSION"):
        monkeypatch.delenv(name, raising=False)
    return launch


def test_nothing_asked_nothing_given(tmp_path: Path, tiny_model: Path, launched: Any) -> None:
    assert sharding(make_test_plan(tmp_path, tiny_model)) == {}


def test_fsdp_keys_under_the_names_of_transformers(
    tmp_path: Path, tiny_model: Path, launched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    plan = make_test_plan(tmp_path, tiny_model, fsdp_version=2, **FSDP)
    launched(ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")
    settings = {"cpu_offload": True, "state_dict_type": "SHARDED_STATE_DICT", "version": 2}
    assert sharding(plan) == {"fsdp": True, "fsdp_config": {**settings, "reshard_after_forward": True}}


def test_the_strategy_of_version_1_reaches_accelerate(
    tmp_path: Path, tiny_model: Path, launched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setenv("FSDP_SHARDING_STRATEGY", "FULL_SHARD")
    config = {"sharding_strategy": "SHARD_GRAD_OP"}
    arguments = sharding(make_test_plan(tmp_path, tiny_model, fsdp_version=1, fsdp_config=config))["fsdp_config"]
    plugin = FullyShardedDataParallelPlugin(fsdp_version=1, reshard_after_forward=arguments["reshard_after_forward"])
    assert plugin.sharding_strategy.name == "SHARD_GRAD_OP"


@pytest.mark.parametrize(
    ("asked", "variables", "message"),
    [
        (
            FSDP,
            {"ACCELERATE_USE_DEEPSPEED": "true"},
            "the recipe asks for fsdp, and the launcher was configured for deepspeed",
        ),
        (
            {"deepspeed": {"zero_optimization": {"stage": 2}}},
            {"ACCELERATE_USE_FSDP": "true"},
            "the recipe asks for deepspeed, and the launcher was configured for fsdp",
        ),
        (
            {**FSDP, "fsdp_version": 1},
            {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
            "the recipe asks for fsdp_version 1, and the launcher was configured for 2",
        ),
    ],
)
def test_a_launcher_configured_for_something_else(
    tmp_path: Path, tiny_model: Path, launched: Any, asked: dict[str, Any], variables: dict[str, str], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("plugins.trainers.sft.rules.find_spec", lambda name: True)
    launched(**variables)
    with pytest.raises(UserError, match=message):
        sharding(make_test_plan(tmp_path, tiny_model, **asked))


def test_only_the_launcher_asks(
    tmp_path: Path, tiny_model: Path, launched: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    launched(ACCELERATE_USE_FSDP="true")
    assert sharding(make_test_plan(tmp_path, tiny_model)) == {}
    assert "the launcher's configuration asks for fsdp, the recipe for neither" in capsys.readouterr().out


def test_a_deepspeed_file_beside_the_recipe(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins.trainers.sft.rules.find_spec", lambda name: True)
    (tmp_path / "zero2.json").write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    plan = make_test_plan(tmp_path, tiny_model, deepspeed="zero2.json")
    assert deepspeed_settings(plan) == str(tmp_path / "zero2.json")
    (tmp_path / "zero2.json").unlink()
    with pytest.raises(UserError, match=r"no DeepSpeed configuration at 'zero2\.json'"):
        deepspeed_settings(plan)
