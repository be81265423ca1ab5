"""Scoring by generation while training: its figures are those of the model of that step, and they may choose it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from core.check import check_recipe
from core.cli import main
from core.errors import UserError
from core.host import load_host
from core.recipe import load_recipe
from core.schema_files import load_fragment
from core.testing.recipes import write_tiny_recipe

ROWS = [
    {"instruction": "Answer with yes or no.", "input": f"Is {n} even?", "output": "no" if n % 2 else "yes"}
    for n in range(24)
]
SCORED = {
    "metrics": [{"type": "accuracy"}, {"type": "perplexity"}, {"type": "latency"}],
    "max_new_tokens": 4,
    "compare": ["tuned"],
    "latency_sample": 2,
}
VALUES: dict[str, Any] = {
    "evaluation": SCORED,
    "val_set_size": 8,
    "num_epochs": 4,
    "max_steps": None,
    "learning_rate": 0.02,
    "generation_evals_per_epoch": 2,
    "generation_eval_items": 6,
    "bf16": False,
}


def finished(folder: Path) -> dict[str, Any]:
    values = json.loads((folder / "out" / "run.json").read_text())
    jsonschema.validate(values, load_fragment("run"))
    return dict(values)


def scored_steps(values: dict[str, Any]) -> dict[int, tuple[float, float]]:
    return {
        record["step"]: (record["eval_accuracy"], record["eval_perplexity"])
        for record in values["train"]["history"]
        if "eval_accuracy" in record
    }


def test_a_fixed_sample_is_scored_as_the_model_learns(tmp_path: Path, tiny_model: Path, capsys: Any) -> None:
    assert main(["run", str(write_tiny_recipe(tmp_path, tiny_model, VALUES, rows=ROWS))]) == 0
    values = finished(tmp_path)
    # 16 rows in steps of 2: 8 steps per epoch, scored every 4
    assert list(scored_steps(values)) == list(range(4, 33, 4))
    assert values["train"]["generation"] == {
        "items": 6,
        "source": "the validation data",
        "metrics": ["accuracy", "perplexity"],
    }
    perplexities = [perplexity for _, perplexity in scored_steps(values).values()]
    assert perplexities[-1] < perplexities[0] / 2, "the model learns to say yes or no"
    assert "best" not in values["train"]
    metrics = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert any("eval_accuracy" in record for record in metrics)
    assert "accuracy 0" in capsys.readouterr().out


def test_losses_are_the_same_with_and_without_it(tmp_path: Path, tiny_model: Path) -> None:
    losses = []
    for name, values in (("with", VALUES), ("without", {**VALUES, "generation_evals_per_epoch": None})):
        values = {**values, "adapter": "lora", "lora_dropout": 0.2, "num_epochs": 2, "generation_eval_items": None}
        assert main(["run", str(write_tiny_recipe(tmp_path / name, tiny_model, values, rows=ROWS))]) == 0
        losses.append(finished(tmp_path / name)["train"]["losses"])
    assert losses[0] == losses[1]


def test_any_metric_may_choose_the_checkpoint_and_stop_the_training(tmp_path: Path, tiny_model: Path) -> None:
    values = {
        **VALUES,
        "learning_rate": 0.5,  # overshoots at once, so that an early step is the best
        "metric_for_best_model": "perplexity",
        "load_best_model_at_end": True,
        "early_stopping_patience": 2,
    }
    assert main(["run", str(write_tiny_recipe(tmp_path, tiny_model, values, rows=ROWS))]) == 0
    train = finished(tmp_path)["train"]
    scores = {step: perplexity for step, (_, perplexity) in scored_steps(finished(tmp_path)).items()}
    best = min(scores, key=lambda step: scores[step])
    assert train["best"] == {"metric": "perplexity", "value": pytest.approx(scores[best]), "step": best}
    assert train["steps"] < 32
    assert train["stopped"] == "perplexity no longer improves"


def test_a_metric_that_fails_costs_no_training(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import core.evaluation.during as during

    real, calls = during.score_column, []

    def broken(metrics: Any, *args: Any, **options: Any) -> Any:
        calls.append(metrics[0].name)
        if metrics[0].name == "perplexity" and calls.count("perplexity") == 2:
            raise UserError("the metric 'perplexity' failed on the item at train.jsonl:3", help="look at the row")
        return real(metrics, *args, **options)

    monkeypatch.setattr(during, "score_column", broken)
    short = {**VALUES, "num_epochs": 2}
    assert main(["run", str(write_tiny_recipe(tmp_path / "beside", tiny_model, short, rows=ROWS))]) == 0
    assert "failed on the item at train.jsonl:3; training goes on without this figure" in capsys.readouterr().out
    records = [one for one in finished(tmp_path / "beside")["train"]["history"] if "eval_accuracy" in one]
    assert ["eval_perplexity" in one for one in records] == [True, False, True, True]

    calls.clear()
    chosen = {**short, "metric_for_best_model": "perplexity", "load_best_model_at_end": True}
    recipe = str(write_tiny_recipe(tmp_path / "choosing", tiny_model, chosen, rows=ROWS))
    assert main(["run", recipe]) == 2
    (said,) = re.findall(r"saved up to step (\d+): go on from there with --resume", capsys.readouterr().err)
    assert (tmp_path / "choosing" / "out" / f"checkpoint-{said}").is_dir()
    assert main(["run", recipe, "--resume"]) == 0
    assert f"resuming after step {said}" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_score_the_sample_as_one_does(tmp_path: Path, tiny_model: Path) -> None:
    found = []
    for processes in (1, 2):
        values = {**VALUES, "num_epochs": 1, "micro_batch_size": 2 // processes}
        recipe = write_tiny_recipe(tmp_path / str(processes), tiny_model, values, rows=ROWS)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
        environment |= {"TUNESMITH_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        command = [sys.executable, "-m", "core", "launch", str(recipe), "--cpu", "--num_processes", str(processes)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(scored_steps(finished(tmp_path / str(processes))))
    assert list(found[0]) == list(found[1]) == [4, 8]
    for step, (accuracy, perplexity) in found[0].items():
        assert found[1][step][0] == accuracy
        assert found[1][step][1] == pytest.approx(perplexity, rel=1e-3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"val_set_size": None}, "generation_evals_per_epoch scores validation data, and there is none"),
        ({"metric_for_best_model": "acuracy"}, "metric_for_best_model 'acuracy' is not measured during training"),
        ({"metric_for_best_model": "eval_latency"}, "timings are not taken during training"),
        (
            {"metric_for_best_model": "accuracy", "generation_evals_per_epoch": None, "generation_eval_items": None},
            "is scored by generation, which is not asked for",
        ),
        ({"generation_evals_per_epoch": None}, "generation_eval_items has no effect"),
    ],
)
def test_what_cannot_be_scored_is_found_before_the_run(
    tmp_path: Path, tiny_model: Path, changed: dict[str, Any], message: str
) -> None:
    recipe = load_recipe(write_tiny_recipe(tmp_path, tiny_model, {**VALUES, **changed}, rows=ROWS))
    found = [problem for problem in check_recipe(recipe, load_host()) if "nothing to score" not in problem.message]
    assert message in found[0].message
    assert found[0].position is not None


def test_the_items_that_judge_must_not_choose(tmp_path: Path, tiny_model: Path) -> None:
    values = {
        **VALUES,
        "val_set_size": None,
        "test_datasets": [{"path": str(tmp_path / "train.jsonl"), "type": "alpaca"}],
        "load_best_model_at_end": True,
    }
    recipe = load_recipe(write_tiny_recipe(tmp_path, tiny_model, values, rows=ROWS))
    messages = [problem.message for problem in check_recipe(recipe, load_host())]
    assert "load_best_model_at_end chooses the checkpoint by the very items that judge it afterwards" in messages
