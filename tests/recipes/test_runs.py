"""The recipes that are shipped, and one as people write them for axolotl, run to the end on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from core.cli import main

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("llama-full", "llama-lora", "llama-qlora")

AXOLOTL_STYLE = """\
base_model: meta-llama/Llama-2-7b-hf
model_type: LlamaForCausalLM
tokenizer_type: LlamaTokenizer
adapter: lora
lora_r: 16
lora_alpha: 32
datasets:
  - path: ./my_domain_data.jsonl
    type: alpaca
output_dir: ./domain-llama
"""


def write_rows(path: Path, numbers: range) -> str:
    rows = [{"instruction": "Is it even?", "input": f"{n}", "output": "no" if n % 2 else "yes"} for n in numbers]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def set_options(values: dict[str, Any]) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def checked_run_json(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "run.json").read_text())
    Draft202012Validator(json.loads((ROOT / "schemas" / "run.json").read_text())).validate(values)
    return values


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_recipe_runs_with_a_tiny_model_in_its_place(
    name: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {
        "base_model": tiny_model,
        "datasets.0.path": write_rows(tmp_path / "train.jsonl", range(40)),
        "evaluation.datasets.0.path": write_rows(tmp_path / "test.jsonl", range(100, 104)),
        "evaluation.max_new_tokens": 4,
        "output_dir": tmp_path / "out",
        "max_steps": 2,
        # paged optimizers keep their state on a GPU
        **({"optimizer": "adamw_torch"} if name == "llama-qlora" else {}),
    }
    assert main(["run", str(ROOT / "recipes" / f"{name}.yml"), *set_options(overrides)]) == 0, capsys.readouterr().err
    values = checked_run_json(tmp_path / "out")
    assert list(values["evaluation"]) == ["base", "prompted", "tuned"]
    for column in values["evaluation"].values():
        assert {"accuracy", "latency"} <= set(column)
        assert all(metric["value"] is not None for metric in column.values())
    assert values["train"]["steps"] == len(values["train"]["losses"]) == 2
    assert values["plan"]["predicted_bytes"] > 0  # a mistake in the planner does not end a run
    trained, total = values["parameters"]["trained"], values["parameters"]["total"]
    assert (trained == total) if name == "llama-full" else (0 < trained < total)
    quantisation = {column["quantisation"] for column in values["columns"].values()}
    assert quantisation == ({"4bit"} if name == "llama-qlora" else {None})
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert [set(json.loads(line)["answers"]) for line in lines] == [{"base", "prompted", "tuned"}] * 4
    assert (tmp_path / "out" / "report.html").stat().st_size > 0
    assert load_as_anyone_would(tmp_path / "out") is not None


def load_as_anyone_would(folder: Path) -> Any:
    """With transformers and peft alone."""
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loader = AutoPeftModelForCausalLM if (folder / "adapter_config.json").is_file() else AutoModelForCausalLM
    model, tokenizer = loader.from_pretrained(str(folder)), AutoTokenizer.from_pretrained(str(folder))
    return model.generate(**tokenizer("Is it even?", return_tensors="pt"), max_new_tokens=2)


def test_a_recipe_written_for_axolotl_runs_unchanged(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yml").write_text(AXOLOTL_STYLE)
    write_rows(tmp_path / "mine.jsonl", range(40))
    overrides = {"base_model": tiny_model, "tokenizer_type": "AutoTokenizer", "datasets.0.path": "mine.jsonl"}
    assert main(["run", "recipe.yml", *set_options(overrides)]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    told = next(line for line in out.splitlines() if line.startswith("defaults taken: "))
    for default in ("num_epochs 3", "micro_batch_size 4", "gradient_accumulation_steps 4", "learning_rate 0.0002"):
        assert default in told
    for default in ("warmup_steps 100", "logging_steps 10", "save_steps 500", "lora_dropout 0.05"):
        assert default in told
    # 40 rows, 16 to a step, 3 epochs; a tenth of all steps to warm up is none
    assert "9 steps of 16 rows (4 x 4 accumulated x 1 process), 40 rows, 3 times each, 0 steps to warm up" in out
    folder = tmp_path / "domain-llama"
    adapter = json.loads((folder / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (16, 32, 0.05)
    assert sorted(adapter["target_modules"]) == ["q_proj", "v_proj"]
    values = checked_run_json(folder)
    assert values["verdict"]["outcome"] == "no_test_set"
    assert "evaluation.datasets" in values["verdict"]["words"]
    assert values["verdict"]["words"] in out
    assert values["verdict"]["words"] in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "MistralForCausalLM", "model_type 'MistralForCausalLM' contradicts the model's own config.json"),
        ("tokenizer_type", "LlamaTokenizer", "tokenizer_type 'LlamaTokenizer' contradicts the model's own tokenizer"),
    ],
)
def test_a_type_that_contradicts_the_models_files_is_refused_and_nothing_written(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    key: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yml").write_text(AXOLOTL_STYLE)
    write_rows(tmp_path / "mine.jsonl", range(8))
    overrides = {"base_model": tiny_model, "tokenizer_type": "AutoTokenizer", "datasets.0.path": "mine.jsonl"}
    assert main(["run", "recipe.yml", *set_options(overrides | {key: value})]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "domain-llama").exists()
