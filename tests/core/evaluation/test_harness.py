"""Tasks of lm-evaluation-harness, for real, on data of our own: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.cli import main
from core.errors import UserError
from core.evaluation.harness import _figures
from core.testing.recipes import ALPACA_ROWS, write_tiny_recipe

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
output_type: {kind}
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
"""
CHOICE = "doc_to_choice: choices\ndoc_to_target: answer\nmetric_list: [{metric: acc}]\n"
WRITTEN = (
    'doc_to_target: "{{choices[answer]}}"\n'
    "generation_kwargs: {max_gen_toks: 4, until: ['.']}\nmetric_list: [{metric: exact_match}]\n"
)


def write_tasks(folder: Path) -> Path:
    """A folder with a multiple-choice task and a generating one, over the same twelve rows."""
    tasks = folder / "tasks"
    tasks.mkdir()
    rows = [{"question": f"Is {n} even?", "choices": ["yes", "no"], "answer": n % 2} for n in range(12)]
    data = tasks / "parity.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    for name, kind, rest in (("parity", "multiple_choice", CHOICE), ("parity_written", "generate_until", WRITTEN)):
        (tasks / f"{name}.yaml").write_text(TASK.format(name=name, data=data, kind=kind) + rest, encoding="utf-8")
    return tasks


def write(folder: Path, model: Path, **lm_eval: Any) -> Path:
    scored = {
        "datasets": [{"path": str(folder / "test.jsonl"), "type": "alpaca"}],
        "metrics": [{"type": "accuracy"}],
        "max_new_tokens": 4,
        "lm_eval": lm_eval,
    }
    return write_tiny_recipe(
        folder, model, {"adapter": "lora", "evaluation": scored}, rows=ALPACA_ROWS[:8], held_out=ALPACA_ROWS[8:]
    )


def test_tasks_are_run_on_base_and_tuned(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'tunesmith[lm-eval]'")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    tasks = ["parity", "parity_written"]
    recipe = write(tmp_path, tiny_model, tasks=tasks, include_path=str(write_tasks(tmp_path)), limit=8)
    assert main(["run", str(recipe)]) == 0, capsys.readouterr().err
    forgetting = json.loads((tmp_path / "out" / "run.json").read_text())["forgetting"]
    assert [(part["name"], part["n"], part["unit"]) for part in forgetting["parts"]] == [
        ("parity", 8, "share"),
        ("parity_written", 8, "share"),
    ]
    first = forgetting["parts"][0]
    assert 0 <= first["base"] <= 1
    assert first["interval"][0] <= first["drop"] <= first["interval"][1]
    said = capsys.readouterr().out
    assert "probed for general abilities: parity (8), parity_written (8)" in said


def test_a_task_that_is_not_there_is_told(tmp_path: Path, tiny_model: Path, capsys: Any) -> None:
    pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'tunesmith[lm-eval]'")
    recipe = write(tmp_path, tiny_model, tasks=["no_such_task_at_all"])
    assert main(["run", str(recipe)]) == 2
    said = capsys.readouterr().err
    assert "there is no task 'no_such_task_at_all'" in said
    assert "lm-eval ls tasks" in said


def test_the_figure_of_a_task_is_the_best_known_one() -> None:
    samples = [{"doc_id": 1, "acc": 0.0, "acc_norm": 1.0}, {"doc_id": 0, "acc": 1.0, "acc_norm": 0.0}]
    assert _figures("arc", samples) == [{"acc_norm": 0.0}, {"acc_norm": 1.0}]
    own = [{"doc_id": 0, "metrics": ["f2", "seen"], "f2": [1], "seen": 1.0}]
    assert _figures("own", own) == [{"seen": 1.0}]
    with pytest.raises(UserError, match="gives no figure per item"):
        _figures("own", [{"doc_id": 0, "metrics": ["f2"], "f2": [1]}])
