from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.planner.sharding import Held, left_out, strategy_of
from core.recipe import Recipe

GB = 10.0**9


def recipe(folder: Path, **values: Any) -> Recipe:
    defaults: dict[str, Any] = {"deepspeed": None, "fsdp": None, "fsdp_config": None}
    return Recipe(path=folder / "recipe.yml", text="", values=values, defaults=defaults)


@pytest.mark.parametrize(("stage", "strategy"), [(0, "ddp"), (1, "ddp"), (2, "ddp"), (3, "zero3")])
def test_the_stage_is_read_from_the_file_as_from_the_recipe(stage: int, strategy: str, tmp_path: Path) -> None:
    settings = {"zero_optimization": {"stage": stage}}
    (tmp_path / "zero.json").write_text(json.dumps(settings), encoding="utf-8")
    for given in (settings, "zero.json", str(tmp_path / "zero.json")):
        asked = recipe(tmp_path, deepspeed=given)
        assert strategy_of(asked) == strategy
        assert [note for note in left_out(asked) if f"stage {stage} is planned" in note] == left_out(asked)
        assert bool(left_out(asked)) == (stage in (1, 2))


def test_without_a_configuration_that_can_be_read_nothing_is_shared(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    for given in ("broken.json", "missing.json", {"train_batch_size": "auto"}):
        assert strategy_of(recipe(tmp_path, deepspeed=given)) == "ddp"


def test_what_is_kept_in_host_memory_is_told_of(tmp_path: Path) -> None:
    fsdp = recipe(tmp_path, fsdp_config={"offload_params": True})
    assert strategy_of(fsdp) == "fsdp"
    assert left_out(fsdp)[0].startswith("offload_params: ")
    zero = recipe(tmp_path, deepspeed={"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}})
    assert left_out(zero)[0].startswith("zero_optimization.offload_optimizer: ")
    assert left_out(recipe(tmp_path)) == []


def test_what_each_of_four_holds() -> None:
    held = Held(16 * GB, 8 * GB, 32 * GB, layer=GB, root=2 * GB, layer_gradients=0.5 * GB, parameters=8 * 10**9)
    assert held.per_rank(1, "fsdp") == (held, 0.0)
    assert held.per_rank(4, "ddp") == (held, 8 * GB)
    for strategy, buffers in (("fsdp", 2 * GB + 2 * GB + 0.5 * GB), ("zero3", 2 * GB + 0.5 * GB)):
        mine, needed = held.per_rank(4, strategy)  # type: ignore[arg-type]
        assert (mine.weights, mine.gradients, mine.optimizer) == (4 * GB, 2 * GB, 8 * GB)
        assert needed == buffers


def test_what_trains_in_bfloat16_is_held_in_float32_where_it_is_shared_out() -> None:
    """100 numbers of 2 bytes on 4 ranks: FSDP has weights and gradients of 4, ZeRO-3 a copy of 4 beside those of 2."""
    held = Held(200.0, 200.0, 800.0, rounded=True, widened=200.0)
    assert held.per_rank(1, "fsdp") == (held, 0.0)
    assert held.per_rank(4, "ddp")[0] == held
    fsdp, _ = held.per_rank(4, "fsdp")
    assert (fsdp.weights, fsdp.gradients, fsdp.optimizer, fsdp.rounded) == (100.0, 100.0, 200.0, False)
    zero, _ = held.per_rank(4, "zero3")
    assert (zero.weights, zero.gradients, zero.optimizer) == (50.0, 50.0, 300.0)
