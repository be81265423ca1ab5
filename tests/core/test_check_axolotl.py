"""Recipes as axolotl's users write them pass unchanged: nulls, rates like 2e-5, values that switch a key off."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.check import check_recipe, resolve_defaults
from core.host import Host, load_host
from core.recipe import load_recipe
from tests.core.axolotl_recipes import COMMON, LORA, draw_recipes

RECIPES = sorted((Path(__file__).parents[1] / "axolotl").glob("*.yml"))
DRAWN = list(draw_recipes(80))
SFT = "base_model: org/model\ndatasets: [{path: org/data, type: alpaca}]\n"


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


def test_there_are_recipes_of_every_kind() -> None:
    assert len(RECIPES) >= 25
    texts = [path.read_text(encoding="utf-8") for path in RECIPES]
    for part in ("adapter: qlora", "adapter: lora", "adapter:\n", "fsdp_version", "deepspeed", "plugins:", "2e-5"):
        assert any(part in text for text in texts), part


def test_the_drawn_recipes_set_every_key() -> None:
    keys = set().union(*(keys for _, keys in DRAWN))
    assert {*COMMON, *LORA} <= keys
    assert len(keys) > 190


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipe_passes_unchanged(path: Path, host: Host) -> None:
    problems = check_recipe(load_recipe(path), host)
    assert [problem.message for problem in problems if problem.severity == "error"] == []


@pytest.mark.parametrize("number", range(len(DRAWN)))
def test_a_drawn_recipe_passes_unchanged(number: int, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text(DRAWN[number][0], encoding="utf-8")
    problems = check_recipe(load_recipe(path), host)
    assert [problem.message for problem in problems if problem.severity == "error"] == []
    assert all(problem.message and problem.position for problem in problems)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("relora", "relora: true\nrelora_prune_ratio: 0.9\nrelora_cpu_offload: false\njagged_restart_steps: 150"),
        ("lisa_n_layers", "lisa_n_layers: 4\nlisa_step_interval: 20\nlisa_layers_attribute: model.layers"),
        ("llmcompressor", "llmcompressor:\n  recipe: {}\n  save_compressed: true"),
        ("use_eaft", "use_eaft: true\neaft_alpha: 1.0\neaft_k: 20"),
        ("peft", "peft:\n  loftq_config:\n    loftq_bits: 4"),
    ],
)
def test_what_would_train_another_way_is_refused_by_name(key: str, text: str, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text(f"{SFT}{text}\n", encoding="utf-8")
    errors = [problem for problem in check_recipe(load_recipe(path), host) if problem.severity == "error"]
    assert errors[0].key == (key,)
    assert errors[0].message.startswith(f"{key!r} is not supported: ")
    assert all(problem.help for problem in errors)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("processor_type", "processor_type: AutoProcessor\nskip_prepare_dataset: true\nfreeze_mm_modules: true"),
        ("rl", "rl: dpo\nrl_beta: 0.5"),
        ("rl", "orpo_alpha: 0.1\nrl: orpo\ntrl:\n  beta: 0.1"),
        ("rl", "trl:\n  use_vllm: true\nvllm:\n  max_model_len: 2048\nrl: gdpo"),
        ("rl", "rl: kto\nkto_desirable_weight: 0.2"),
        ("rl", "rl: ebft\nebft:\n  mode: strided"),
        ("reward_model", "num_labels: 1\nreward_model: true\ncenter_rewards_coefficient: 0.01"),
        ("process_reward_model", "process_reward_model: true\nnum_labels: 2"),
        (
            "pretraining_dataset",
            "pretrain_multipack_attn: true\npretraining_dataset:\n  - path: allenai/c4\n    name: en",
        ),
        (
            "diffusion",
            "plugins: [axolotl.integrations.diffusion.DiffusionPlugin]\ndiffusion:\n  noise_schedule: cosine",
        ),
    ],
)
def test_another_job_fails_with_the_one_line_that_names_its_key(
    key: str, text: str, host: Host, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text(f"{SFT}learning_rate: 2e-5\n{text}\n", encoding="utf-8")
    (problem,) = check_recipe(load_recipe(path), host)
    assert problem.severity == "error"
    assert problem.key == (key,)
    assert problem.message.startswith(f"{key!r} asks for ")


def test_a_key_of_another_job_that_nothing_asks_for_has_no_effect(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text(f"{SFT}trl:\n  beta: 0.1\nnum_labels: 2\n", encoding="utf-8")
    problems = check_recipe(load_recipe(path), host)
    assert {problem.severity for problem in problems} == {"warning"}
    assert len(problems) == 2


def test_keys_mean_what_they_mean_there(host: Host) -> None:
    by_name = {path.stem: resolve_defaults(load_recipe(path), host) for path in RECIPES}
    assert by_name["redpajama-batch-size"]["gradient_accumulation_steps"] == 1
    assert by_name["phi-warmup-share"]["attn_implementation"] == "flash_attention_2"
    assert by_name["phi-warmup-share"]["warmup_steps"] == 0.1
    assert by_name["llama3-fft"]["learning_rate"] == 2e-5
    assert by_name["strategies"]["eval_strategy"] == "no"
    assert by_name["llama2-fft"]["adapter"] == "full"


def test_what_is_missing_here_is_a_warning_for_check_and_an_error_for_a_run(host: Host, tmp_path: Path) -> None:
    from core.errors import RecipeError
    from core.plan import make_plan

    path = tmp_path / "recipe.yml"
    path.write_text(f"{SFT}deepspeed: deepspeed_configs/zero2.json\n", encoding="utf-8")
    recipe = load_recipe(path)
    assert {problem.severity for problem in check_recipe(recipe, host)} == {"warning"}
    with pytest.raises(RecipeError, match=r"no such file: 'deepspeed_configs/zero2\.json'") as caught:
        make_plan(recipe, host)
    assert {problem.severity for problem in caught.value.problems} == {"error"}


@pytest.mark.parametrize(
    ("line", "name", "meant"),
    [
        ("fsdp_config: {reshard_after_forwrd: true}", "reshard_after_forwrd", "reshard_after_forward"),
        ("fsdp_config: {fsdp_ofload_params: true}", "fsdp_ofload_params", "fsdp_offload_params"),
        ("gradient_checkpointing_kwargs: {use_reentrantt: false}", "use_reentrantt", "use_reentrant"),
    ],
)
def test_a_misspelt_setting_inside_a_map_is_an_error(
    line: str, name: str, meant: str, host: Host, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text(SFT + "gradient_checkpointing: true\n" + line + "\n", encoding="utf-8")
    (problem,) = [problem for problem in check_recipe(load_recipe(path), host) if problem.severity == "error"]
    assert problem.message == f"unknown key {name!r} in {line.partition(':')[0]!r}"
    assert problem.help is not None
    assert meant in problem.help
