from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import UserError
from core.models import load_tokenizer, save_model
from core.models.save import writing_to
from tests.core.model_plans import ADAPTERS, make_model_plan


@pytest.fixture
def trained(tiny_model: Path, tmp_path: Path) -> tuple[Any, Any, Any]:
    """(plan, a fully trained model, its tokenizer)."""
    plan = make_model_plan(tmp_path, tiny_model)
    return plan, plan.adapter.build(plan), load_tokenizer(plan)


def test_a_full_model_loads_with_plain_transformers(trained: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plan, model, tokenizer = trained
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_model(plan, model, tokenizer)
    ids = torch.arange(5, 25).view(1, -1)
    loaded = AutoModelForCausalLM.from_pretrained(plan.output_dir)
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded.config.use_cache is True
    assert model.config.use_cache is False
    assert AutoTokenizer.from_pretrained(plan.output_dir).chat_template == tokenizer.chat_template
    assert {path.name for path in plan.output_dir.iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_a_base_with_odd_sampling_settings_can_be_saved(trained: Any) -> None:
    plan, model, tokenizer = trained
    model.generation_config.temperature = 0.9
    save_model(plan, model, tokenizer)
    assert (plan.output_dir / "generation_config.json").is_file()


def test_other_files_of_the_folder_stay(trained: Any) -> None:
    plan, model, tokenizer = trained
    plan.output_dir.mkdir()
    (plan.output_dir / "README.md").write_text("mine")
    save_model(plan, model, tokenizer)
    assert (plan.output_dir / "README.md").read_text() == "mine"


def test_an_adapters_own_save_is_used(trained: Any) -> None:
    plan, model, tokenizer = trained
    own = replace(ADAPTERS["full"], save=lambda plan, model, folder: (folder / "own.bin").write_bytes(b"x"))
    save_model(replace(plan, adapter=own), model, tokenizer)
    assert (plan.output_dir / "own.bin").is_file()
    assert not (plan.output_dir / "model.safetensors").exists()


@pytest.mark.parametrize("how", ["operating system", "safetensors"])
def test_a_full_disk_is_explained_and_leaves_nothing_half_written(
    how: str, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    plan, model, tokenizer = trained
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    error = (
        full if how == "operating system" else SafetensorError(f"I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")
    )
    plan.output_dir.mkdir()
    (plan.output_dir / "tokenizer.json").write_text("of an earlier run")

    def half(folder: Path, **rest: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(model, "save_pretrained", half)
    with pytest.raises(UserError, match="no space left on device") as caught:
        save_model(plan, model, tokenizer)
    assert repr(str(plan.output_dir)) in caught.value.message
    assert "--resume" in str(caught.value.help)
    assert [path.name for path in plan.output_dir.iterdir()] == ["tokenizer.json"]
    assert (plan.output_dir / "tokenizer.json").read_text() == "of an earlier run"
    assert model.config.use_cache is False


def test_an_output_folder_that_is_a_file_is_explained(trained: Any) -> None:
    plan, model, tokenizer = trained
    plan.output_dir.write_text("a file")
    with pytest.raises(UserError, match="cannot be saved"):
        save_model(plan, model, tokenizer)


def test_a_bug_while_saving_flies_and_cleans_up(tmp_path: Path) -> None:
    with pytest.raises(TypeError), writing_to(tmp_path / "out") as folder:
        (folder / "half").write_text(None)  # type: ignore[arg-type]
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_are_in_place_before_the_config_that_makes_a_model_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    replace_file = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (moved.append(Path(new).name), replace_file(old, new)))
    with writing_to(tmp_path / "out") as folder:
        for name in ("config.json", "adapter_config.json", "model.safetensors", "adapter_model.safetensors"):
            (folder / name).write_text("x")
    assert moved == ["adapter_model.safetensors", "model.safetensors", "adapter_config.json", "config.json"]


def test_weights_are_as_readable_as_any_other_file(trained: Any) -> None:
    plan, model, tokenizer = trained
    save_model(plan, model, tokenizer)
    modes = {file.name: file.stat().st_mode for file in plan.output_dir.iterdir() if file.is_file()}
    weights = [name for name in modes if name.endswith(".safetensors")]
    assert weights
    assert all(modes[name] == modes["tokenizer_config.json"] for name in weights)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_two_processes_with_sharded_weights_save_one_whole_model(
    adapter: str, tiny_model: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = ["-m", "tests.core.sharded_save", adapter, str(tiny_model), str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run([*command, *script], cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out" if adapter == "full" else tiny_model)
    if adapter == "lora":
        loaded = PeftModel.from_pretrained(loaded, tmp_path / "out")
    with torch.no_grad():
        logits = loaded.eval()(torch.arange(5, 25).view(1, -1)).logits
    assert torch.equal(logits, torch.load(tmp_path / "logits.pt"))
    assert not list((tmp_path / "out").glob(".partial-*"))
