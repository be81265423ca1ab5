from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from accelerate.utils import FullyShardedDataParallelPlugin

from core import Problem
from core.recipe import Recipe
from plugins.trainers.sft.shards import DEEPSPEED_NAMES, STRATEGIES, asks_for_fsdp, fsdp_settings, problems


def recipe(**values: Any) -> Recipe:
    return Recipe(path=Path("recipe.yml"), text="", values=values)


@pytest.mark.parametrize(
    ("values", "reshard"),
    [
        ({"fsdp": True}, None),
        ({"fsdp": ["full_shard", "auto_wrap"]}, True),
        ({"fsdp": "shard_grad_op auto_wrap"}, False),
        ({"fsdp_config": {"sharding_strategy": "SHARD_GRAD_OP"}}, False),
        ({"fsdp_config": {"fsdp_sharding_strategy": "full_shard"}}, True),
        ({"fsdp_config": {"sharding_strategy": 2}}, False),
        ({"fsdp": ["full_shard"], "fsdp_config": {"sharding_strategy": "SHARD_GRAD_OP"}}, False),
        ({"fsdp": ["hybrid_shard"]}, True),
        ({"fsdp_config": {"reshard_after_forward": False}}, False),
        ({"fsdp_version": 1, "fsdp_config": {"sharding_strategy": "HYBRID_SHARD_ZERO2"}}, "hybrid_shard_zero2"),
        ({"fsdp_version": 1, "fsdp_config": {"reshard_after_forward": False}}, "shard_grad_op"),
    ],
)
def test_the_strategy_reaches_fsdp(values: dict[str, Any], reshard: bool | str | None) -> None:
    settings = fsdp_settings(recipe(**values))
    assert settings.get("reshard_after_forward") == reshard
    assert "sharding_strategy" not in settings
    if isinstance(reshard, bool):
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2, reshard_after_forward=reshard)
        assert plugin.reshard_after_forward is reshard


def test_offload_and_the_switch() -> None:
    assert fsdp_settings(recipe(fsdp=["full_shard", "offload"]))["cpu_offload"] is True
    assert fsdp_settings(recipe(fsdp=["offload"], fsdp_config={"offload_params": False}))["cpu_offload"] is False
    assert not asks_for_fsdp(recipe(fsdp=False, fsdp_config={"offload_params": True}))
    assert asks_for_fsdp(recipe(fsdp_config={"offload_params": True}))


@pytest.mark.parametrize(
    ("values", "key", "severity", "said"),
    [
        ({"fsdp": ["ful_shard"]}, ("fsdp", 0), "error", "did you mean 'full_shard'?"),
        ({"fsdp_config": {"sharding_strategy": "FUL_SHARD"}}, ("fsdp_config", "sharding_strategy"), "error", "FULL"),
        ({"fsdp": ["no_shard"]}, ("fsdp", 0), "error", "shards nothing"),
        ({"fsdp": "hybrid_shard"}, ("fsdp",), "warning", "write FULL_SHARD"),
        ({"fsdp_config": {"sharding_strategy": 5}}, ("fsdp_config", "sharding_strategy"), "warning", "SHARD_GRAD_OP"),
        (
            {"fsdp_config": {"fsdp_sharding_strategy": "FULL_SHARD", "fsdp_reshard_after_forward": False}},
            ("fsdp_config", "fsdp_sharding_strategy"),
            "error",
            "opposite things",
        ),
        ({"deepspeed": {"zero_optimisation": {}}}, ("deepspeed", "zero_optimisation"), "warning", "zero_optimization"),
        ({"deepspeed": {"zero_optimization": {"stag": 2}}}, ("deepspeed", "zero_optimization", "stag"), "warning", "?"),
        ({"deepspeed": {"own_thing": 1}}, ("deepspeed", "own_thing"), "warning", "check the spelling"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_said(values: dict[str, Any], key: tuple[Any, ...], severity: str, said: str) -> None:
    found: list[Problem] = list(problems(recipe(**values)))
    (problem,) = found
    assert (problem.key, problem.severity) == (key, severity)
    assert said in f"{problem.message} {problem.help}"


def test_ordinary_settings_raise_nothing() -> None:
    both = recipe(fsdp=["full_shard", "auto_wrap"], fsdp_config={"sharding_strategy": "FULL_SHARD"})
    assert list(problems(both)) == []
    assert list(problems(recipe(deepspeed={"zero_optimization": {"stage": 2}, "bf16": {"enabled": "auto"}}))) == []
    assert list(problems(recipe(fsdp_version=1, fsdp=["no_shard"]))) == []
    assert len(DEEPSPEED_NAMES) > 40
    assert list(STRATEGIES)[:3] == ["FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD"]
