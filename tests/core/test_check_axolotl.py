"""Recipes as axolotl's users write them pass unchanged: nulls, rates like 2e-5, values that switch a key off."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.check import check_recipe, resolve_defaults
from core.host import Host, load_host
from core.recipe import load_recipe

RECIPES = sorted((Path(__file__).parents[1] / "axolotl").glob("*.yml"))


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


def test_there_are_recipes_of_every_kind() -> None:
    assert len(RECIPES) >= 25
    texts = [path.read_text(encoding="utf-8") for path in RECIPES]
    for part in ("adapter: qlora", "adapter: lora", "adapter:\n", "fsdp_version", "deepspeed", "plugins:", "2e-5"):
        assert any(part in text for text in texts), part


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipe_passes_unchanged(path: Path, host: Host) -> None:
    recipe = load_recipe(path)
    errors = [problem for problem in check_recipe(recipe, host) if problem.severity == "error"]
    # a tracker that is not installed here is no fault of the recipe
    assert [problem.message for problem in errors if "needs the package" not in problem.message] == []


def test_keys_mean_what_they_mean_there(host: Host) -> None:
    by_name = {path.stem: resolve_defaults(load_recipe(path), host) for path in RECIPES}
    assert by_name["redpajama-batch-size"]["gradient_accumulation_steps"] == 1
    assert by_name["phi-warmup-share"]["attn_implementation"] == "flash_attention_2"
    assert by_name["phi-warmup-share"]["warmup_steps"] == 0.1
    assert by_name["llama3-fft"]["learning_rate"] == 2e-5
    assert by_name["strategies"]["eval_strategy"] == "no"
    assert by_name["llama2-fft"]["adapter"] == "full"
