"""`tunesmith plan`: its figures, and what it says to input that makes no sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path) -> Path:
    rows = tmp_path / "rows.jsonl"
    lines = [{"instruction": f"Say {number}", "output": "yes" if number % 2 else "no"} for number in range(24)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    file = tmp_path / "recipe.yml"
    values = {
        "base_model": str(tiny_model),
        "datasets": [{"path": str(rows), "type": "alpaca"}],
        "output_dir": str(tmp_path / "out"),
    }
    file.write_text(json.dumps(values), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--gpu-memory", "0", "is not positive"),
        ("--gpu-memory", "-24", "is not positive"),
        ("--gpu-memory", "24GB", "is not a number"),
        ("--gpu-memory", "nan", "is not a number"),
        ("--gpu-memory", "25769803776", "is more than 4,096"),
        ("--gpu-memory", "inf", "is more than 4,096"),
        ("--gpus", "0", "is not positive"),
        ("--gpus", "1.5", "is not a whole number"),
        ("--gpus", "many", "is not a number"),
        ("--gpus", "1e9", "is more than 4,096"),
        ("--tflops", "0", "is not positive"),
        ("--tflops", "312e12", "is more than 100,000"),
        ("--price", "-1", "is not positive"),
        ("--price", "2 USD", "is not a number"),
    ],
)
def test_a_figure_that_makes_no_sense(option: str, text: str, said: str, recipe: Path, capsys: Capture) -> None:
    assert main(["plan", str(recipe), f"{option}={text}"]) == 2
    error = capsys.readouterr().err
    assert f"error: {option} {text!r} {said}\n" in error
    assert f"help: {option} is " in error


def test_all_figures_are_told_of_at_once(recipe: Path, capsys: Capture) -> None:
    assert main(["plan", str(recipe), "--gpu-memory=24GB", "--gpus=0", "--price=2"]) == 2
    error = capsys.readouterr().err
    assert "--gpu-memory '24GB' is not a number; --gpus '0' is not positive" in error
    assert "--price" not in error


def test_figures_are_written_over_no_recipe_and_into_no_missing_folder(recipe: Path, capsys: Capture) -> None:
    before = recipe.read_bytes()
    for target, said in ((recipe, "would overwrite what this command reads"), (Path("no/plan.json"), "no folder 'no'")):
        assert main(["plan", str(recipe), "--json", str(target)]) == 2
        assert said in capsys.readouterr().err
    assert recipe.read_bytes() == before


def test_the_figures_as_json(recipe: Path, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "plan.json"
    assert main(["plan", str(recipe), "--gpu-memory=24", "--gpus=2", "--price=0", "--json", str(file)]) == 0
    said = capsys.readouterr().out
    values = json.loads(file.read_text(encoding="utf-8"))
    assert set(values["approaches"]) == {"full", "lora", "qlora"}
    assert values["ranks"] == 2
    assert values["device"]["memory"] == 24 * 2**30
    assert values["pace"]["price_per_hour"] == 0
    assert "fits 24.0 GiB" in said
    assert "per rank of 2 (ddp)" in said


def test_several_processes_share_a_machine_without_gpus(recipe: Path, tmp_path: Path, capsys: Capture) -> None:
    files = {count: tmp_path / f"{count}.json" for count in (1, 2)}
    for count, file in files.items():
        assert main(["plan", str(recipe), f"--gpus={count}", "--json", str(file)]) == 0
    alone, shared = (json.loads(file.read_text(encoding="utf-8"))["device"] for file in files.values())
    if alone["kind"] == "cpu":
        assert shared["memory"] == alone["memory"] / 2
        assert "2 processes share this machine" in capsys.readouterr().out
