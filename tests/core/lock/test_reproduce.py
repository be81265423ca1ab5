"""The whole, in processes of its own: run, run locked, reproduce, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.testing.recipes import ALPACA_ROWS, write_tiny_recipe

pytestmark = pytest.mark.slow


def tunesmith(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "TUNESMITH_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-m", "core", *map(str, arguments)], capture_output=True, text=True, env=variables
    )


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with dropout, accumulation, validation and evaluation; do not write into it."""
    folder = tmp_path_factory.mktemp("finished")
    values: dict[str, Any] = {
        "adapter": "lora",
        "lora_r": 4,
        "lora_dropout": 0.3,
        "max_steps": 4,
        "gradient_accumulation_steps": 2,
        "val_set_size": 2,
        "datasets": [{"path": "train.jsonl", "type": "alpaca"}],
        "evaluation": {"datasets": [{"path": "test.jsonl", "type": "alpaca"}], "max_new_tokens": 3},
    }
    recipe = write_tiny_recipe(folder, tiny_model, values, rows=ALPACA_ROWS[:9], held_out=ALPACA_ROWS[9:])
    done = tunesmith("run", recipe)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_a_run_is_reproduced_to_the_last_bit(finished: Path, tmp_path: Path) -> None:
    done = tunesmith("reproduce", finished, "--output", tmp_path / "again", TUNESMITH_NUM_THREADS="2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(
        "  losses: equal, all 4 to the last bit\n"
        "  weights: equal, all 8 tensors to the last bit\n"
        "  predictions: equal, all 3\n"
        "  the run is reproduced\n"
    )
    weights = [folder / "adapter_model.safetensors" for folder in (finished, tmp_path / "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    runs = (finished, tmp_path / "again")
    losses = [json.loads((folder / "run.json").read_text())["train"]["losses"] for folder in runs]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 4
    assert json.loads((tmp_path / "again" / "reproduction.json").read_text())["equal"] is True
    locks = [yaml.safe_load((folder / "recipe.lock.yml").read_text()) for folder in (finished, tmp_path / "again")]
    for lock in locks:
        lock.pop("recipe")
    assert locks[0] == locks[1]


def test_a_run_that_comes_out_different_is_code_3(finished: Path, tmp_path: Path) -> None:
    """Another seed than the lock's: what a change that nothing can see would do."""
    done = tunesmith(
        "reproduce", finished, "--output", tmp_path / "again", "--set", "seed=7", "--allow-drift", "recipe"
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "warning: 'seed' is new: the run had none" in done.stderr
    assert done.stderr.count("warning: ") == 1
    assert "losses: different, first at step 1: " in done.stdout
    assert "weights: different in " in done.stdout
    assert done.stdout.endswith("  not reproduced\n")
    assert json.loads((tmp_path / "again" / "reproduction.json").read_text())["equal"] is False


def test_drift_is_refused_before_anything_is_written(finished: Path, tmp_path: Path) -> None:
    lock = yaml.safe_load((finished / "recipe.lock.yml").read_text())
    lock["packages"]["torch"] = "1.0.0"
    lock["base_model"]["files"]["model.safetensors"] = "0" * 64
    lock["recipe"]["datasets"][0]["path"] = str(finished.parent / "train.jsonl")
    lock["recipe"]["evaluation"]["datasets"][0]["path"] = str(finished.parent / "test.jsonl")
    changed = tmp_path / "recipe.lock.yml"
    changed.write_text(yaml.safe_dump(lock))
    arguments = ("--locked", changed, "--set", f"output_dir={tmp_path / 'out'}")
    done = tunesmith("run", *arguments, TUNESMITH_NUM_THREADS="2")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "error: torch is 2." in done.stderr
    assert ", the run used 1.0.0" in done.stderr
    assert "error: 'model.safetensors' of the base model has changed" in done.stderr
    assert "error: threads is 2, the run used 1" in done.stderr
    assert done.stderr.endswith("3 errors\n")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()

    done = tunesmith("run", *arguments, "--set", "adapter=nonesuch")
    assert done.returncode == 2
    assert "unknown adapter 'nonesuch'" in done.stderr
    assert "torch is 2." in done.stderr, "versions that differ may be why"


def test_what_cannot_be_reproduced_is_said(finished: Path, tmp_path: Path) -> None:
    done = tunesmith("reproduce", tmp_path)
    assert (done.returncode, "holds no finished run" in done.stderr) == (2, True)
    (tmp_path / "run.json").write_text("{}")
    done = tunesmith("reproduce", tmp_path)
    assert (done.returncode, "holds no recipe.lock.yml" in done.stderr) == (2, True)
    done = tunesmith("reproduce", finished, "--output", finished)
    assert (done.returncode, "is there already" in done.stderr) == (2, True)
    done = tunesmith("run", finished / "recipe.lock.yml")
    assert (done.returncode, "add --locked" in done.stderr) == (2, True)
    done = tunesmith("run", "--locked", finished / "recipe.lock.yml")
    assert (done.returncode, "already holds a run" in done.stderr) == (2, True)


def test_a_run_of_two_processes_is_run_again_with_two(tiny_model: Path, tmp_path: Path) -> None:
    config = tmp_path / "accelerate.yml"
    config.write_text("distributed_type: MULTI_CPU\nuse_cpu: true\nnum_processes: 2\n")
    recipe = write_tiny_recipe(tmp_path, tiny_model, {"max_steps": 2, "adapter": "lora", "micro_batch_size": 1})
    done = tunesmith("launch", recipe, "--config_file", config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert yaml.safe_load((tmp_path / "out" / "recipe.lock.yml").read_text())["hardware"]["world_size"] == 2
    done = tunesmith("reproduce", tmp_path / "out")
    assert done.returncode in (0, 3), done.stdout + done.stderr
    again = yaml.safe_load((tmp_path / "out-reproduced" / "recipe.lock.yml").read_text())
    assert again["hardware"]["world_size"] == 2
    assert "2 processes" in done.stdout


def test_launch_passes_the_lock_on() -> None:
    from core.cli import command_parser
    from core.commands.launch import _run_arguments

    given = ["out/recipe.lock.yml", "--locked", "--allow-drift", "hardware", "--set", "output_dir=x"]
    args = command_parser("launch").parse_args(given)
    again = command_parser("run").parse_args(_run_arguments(args)[1:])
    assert vars(again) == vars(args)
