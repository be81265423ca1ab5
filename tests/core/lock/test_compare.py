"""Two finished runs held against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from core.errors import UserError
from core.lock.compare import compare_runs, report_lines

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.bfloat16)}


def finished(
    folder: Path,
    losses: list[float | None],
    weights: dict[str, torch.Tensor] | None = WEIGHTS,
    answers: tuple[str, ...] = ("yes", "no"),
    **train: Any,
) -> Path:
    folder.mkdir()
    values = {"train": {"losses": losses, "steps": len(losses), "history": [], **train}}
    (folder / "run.json").write_text(json.dumps(values))
    lines = [json.dumps({"place": str(folder), "answers": {"tuned": {"text": text}}}) + "\n" for text in answers]
    (folder / "predictions.jsonl").write_text("".join(lines))
    if weights is not None:
        save_file(weights, folder / "adapter_model.safetensors")
    return folder


def test_equal_runs(tmp_path: Path) -> None:
    first, second = (finished(tmp_path / name, [2.0, 1.5, None]) for name in "ab")
    result = compare_runs(first, second)
    assert result["equal"] is True
    assert report_lines(result) == [
        "losses: equal, all 3 to the last bit",
        "weights: equal, all 2 tensors to the last bit",
        "predictions: equal, all 2",
    ]


def test_the_first_step_and_the_largest_difference_are_told(tmp_path: Path) -> None:
    changed = {"a": WEIGHTS["a"] + torch.tensor([0.0, 0.25, 0.0]), "b": WEIGHTS["b"]}
    first = finished(tmp_path / "a", [2.0, 1.5, 1.0])
    second = finished(tmp_path / "b", [2.0, 1.5 + 2**-40, 1.25], changed, ("yes", "maybe"))
    result = compare_runs(first, second)
    assert result["equal"] is False
    assert report_lines(result) == [
        f"losses: different, first at step 2: 1.5 and {1.5 + 2**-40!r}; largest difference 0.25",
        "weights: different in 1 of 2 tensors, first in a; largest difference 0.25",
        "predictions: different in 1 of 2, first in item 1",
    ]


def test_logged_losses_are_named_by_their_steps(tmp_path: Path) -> None:
    history = [{"step": 10, "loss": 2.0}, {"step": 15, "eval_loss": 1}, {"step": 20, "loss": 1.0}]
    first = finished(tmp_path / "a", [2.0, 1.0], steps=20, history=history)
    second = finished(tmp_path / "b", [2.0, 1.5], steps=20, history=history)
    assert compare_runs(first, second)["losses"]["first_step"] == 20


def test_one_bit_is_a_difference(tmp_path: Path) -> None:
    zero, minus_zero = {"a": torch.zeros(2)}, {"a": -torch.zeros(2)}
    result = compare_runs(finished(tmp_path / "a", [1.0], zero), finished(tmp_path / "b", [1.0], minus_zero))
    assert result["weights"]["equal"] is False
    assert result["weights"]["max_difference"] == 0.0


@pytest.mark.parametrize(
    ("weights", "line"),
    [
        (None, "weights: different, only one run has adapter_model.safetensors"),
        ({"a": WEIGHTS["a"]}, "weights: different in 1 of 1 tensors, first in b; largest difference 0"),
        ({**WEIGHTS, "a": torch.zeros(2)}, "weights: different in 1 of 2 tensors, first in a; largest difference inf"),
    ],
)
def test_other_files_tensors_or_shapes(weights: Any, line: str, tmp_path: Path) -> None:
    result = compare_runs(finished(tmp_path / "a", [1.0]), finished(tmp_path / "b", [1.0], weights))
    assert result["equal"] is False
    assert report_lines(result)[1] == line


def test_fewer_steps_and_no_weights_at_all(tmp_path: Path) -> None:
    first = finished(tmp_path / "a", [1.0, 2.0], None)
    second = finished(tmp_path / "b", [1.0], None, ("yes",))
    lines = report_lines(compare_runs(first, second))
    assert lines[0] == "losses: different, 2 and 1 of them"
    assert lines[1] == "weights: no *.safetensors to compare"
    assert lines[2] == "predictions: different, 2 and 1 of them"


def test_a_run_that_did_not_finish(tmp_path: Path) -> None:
    first = finished(tmp_path / "a", [1.0])
    with pytest.raises(UserError, match=r"holds no finished run: run\.json is missing"):
        compare_runs(first, tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        compare_runs(tmp_path / "nowhere", first)
    (first / "run.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        compare_runs(first, first)
