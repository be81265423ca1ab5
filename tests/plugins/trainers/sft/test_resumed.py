"""A checkpoint of another model is refused before anything is written; a resumed run counts all of its processes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from core import RecipeError, UserError
from core.testing.recipes import write_tiny_recipe
from plugins.trainers.sft.checkpoints import read_progress
from plugins.trainers.sft.resumed import refuse_other_model
from tests.core.lock.conftest import tunesmith

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "save_steps": 2, "max_steps": 2}


def lora(folder: Path, **settings: Any) -> Any:
    base = AutoModelForCausalLM.from_pretrained(folder)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **settings})
    return get_peft_model(base, config)


@pytest.mark.parametrize(
    ("settings", "key", "said"),
    [
        ({}, None, ""),
        ({"r": 8}, "lora_r", "lora_r 4, the recipe says 8"),
        ({"lora_alpha": 16}, "lora_alpha", "lora_alpha 8, the recipe says 16"),
        ({"target_modules": ["q_proj"]}, "lora_target_modules", "q_proj, v_proj, the recipe says q_proj"),
        ({"use_dora": True}, "peft_use_dora", "peft_use_dora nothing, the recipe says True"),
    ],
)
def test_an_adapter_of_other_settings_is_refused_with_both_values(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any], key: str | None, said: str
) -> None:
    lora(tiny_model).save_pretrained(tmp_path)
    model = lora(tiny_model, **settings)
    if key is None:
        refuse_other_model(model, tmp_path)
        return
    with pytest.raises(RecipeError) as raised:
        refuse_other_model(model, tmp_path)
    (problem,) = raised.value.problems
    assert problem.key == (key,)
    assert said in problem.message
    assert "--overwrite" in (problem.help or "")


def test_weights_of_another_shape_and_another_kind_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.save_pretrained(tmp_path / "whole")
    refuse_other_model(model, tmp_path / "whole")
    with pytest.raises(RecipeError, match="holds a whole model, and the recipe trains an adapter"):
        refuse_other_model(lora(tiny_model), tmp_path / "whole")
    lora(tiny_model).save_pretrained(tmp_path / "adapter")
    with pytest.raises(RecipeError, match="holds an adapter, and the recipe trains a whole model"):
        refuse_other_model(model, tmp_path / "adapter")
    (tmp_path / "other").mkdir()
    save_file({"model.norm.weight": torch.zeros(3)}, tmp_path / "other" / "model.safetensors")
    with pytest.raises(RecipeError, match=r"has model\.norm\.weight in the shape \(3,\), the model of this recipe in"):
        refuse_other_model(model, tmp_path / "other")


@pytest.mark.parametrize(
    ("file", "size", "said"),
    [
        ("adapter_model.safetensors", None, "it has no file of weights"),
        ("adapter_model.safetensors", 10, "its weights cannot be read"),
        ("adapter_model.safetensors", 2000, "its weights cannot be read"),
        ("adapter_config.json", 20, "adapter_config.json is not whole"),
        ("trainer_state.json", 0, "trainer_state.json is not whole"),
        ("optimizer.pt", 300, "optimizer.pt is not whole"),
        ("rng_state.pth", 0, "rng_state.pth is not whole"),
    ],
)
def test_a_damaged_checkpoint_is_named_with_what_is_wrong_in_it(
    tiny_model: Path, tmp_path: Path, file: str, size: int | None, said: str
) -> None:
    model = lora(tiny_model)
    model.save_pretrained(tmp_path)
    (tmp_path / "trainer_state.json").write_text("{}")
    for name in ("optimizer.pt", "rng_state.pth"):
        torch.save({"state": torch.zeros(100)}, tmp_path / name)
    refuse_other_model(model, tmp_path)
    if size is None:
        (tmp_path / file).unlink()
    else:
        os.truncate(tmp_path / file, size)
    with pytest.raises(UserError, match=said) as raised:
        refuse_other_model(model, tmp_path)
    assert "is damaged" in raised.value.message
    assert "--overwrite" in (raised.value.help or "")


@pytest.mark.parametrize("text", ["", '{"step": 1', "[]", '{"unknown": 1}'])
def test_a_record_of_progress_that_is_not_whole_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "tunesmith_progress.json").write_text(text)
    with pytest.raises(UserError, match=r"is damaged: tunesmith_progress\.json is not whole"):
        read_progress(tmp_path)


@pytest.mark.slow
def test_a_refused_resume_changes_no_file_and_a_right_one_counts_all_processes(
    tiny_model: Path, tmp_path: Path
) -> None:
    recipe = write_tiny_recipe(tmp_path, tiny_model, LORA)
    assert tunesmith("run", recipe).returncode == 0
    first = json.loads((tmp_path / "out" / "run.json").read_text())
    assert first["train"]["earlier_seconds"] == 0
    before = contents(tmp_path / "out")
    refused = tunesmith("run", recipe, "--resume", "--set", "lora_r=8", "--set", "max_steps=3")
    assert refused.returncode == 2, refused.stderr
    assert "was trained with lora_r 4, the recipe says 8" in refused.stderr
    assert "--set lora_r=8" in refused.stderr or "lora_r=8" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert contents(tmp_path / "out") == before
    resumed = tunesmith("run", recipe, "--resume", "--set", "max_steps=3")
    assert resumed.returncode == 0, resumed.stderr
    second = json.loads((tmp_path / "out" / "run.json").read_text())
    assert 0 < second["train"]["earlier_seconds"] < second["seconds"]
    progress = json.loads((tmp_path / "out" / "checkpoint-2" / "tunesmith_progress.json").read_text())
    assert second["memory"]["peak_bytes"] >= progress["peak_bytes"] > 0
    assert second["train"]["earlier_seconds"] == progress["earlier_seconds"]


def contents(folder: Path) -> dict[str, str]:
    found = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}
    assert found
    return found


def test_a_resumed_run_logs_and_saves_as_the_recipe_says_now(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_tiny_recipe(tmp_path, tiny_model, {"save_steps": 2, "max_steps": 4})
    assert tunesmith("run", str(recipe), "--set", "max_steps=2").returncode == 0
    again = ("--resume", "--set", "max_steps=8", "--set", "logging_steps=3", "--set", "save_steps=100")
    done = tunesmith("run", str(recipe), *again)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("step ")] == ["3/8", "6/8", "8/8"]
    assert not list((tmp_path / "out").glob("checkpoint-4"))
