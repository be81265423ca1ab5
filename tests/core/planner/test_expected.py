from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core import Adapter, RecipeError, UserError
from core.planner import device, estimate, lay_out, refuse_impossible, with_expectation
from core.planner.advice import advice_at_one_row
from core.planner.device import Device
from core.planner.expected import expectation
from core.planner.sample import sample_of
from core.planner.table import summary
from core.results import TrainResult
from core.types import Plan

Make = Callable[..., Plan]


def test_an_absurd_rank_is_refused_before_anything_is_loaded(make: Make, tiny_model: Path) -> None:
    plan = make(tiny_model, adapter="lora", lora_target_linear=True, lora_r=500_000_000)
    with pytest.raises(RecipeError) as caught:
        refuse_impossible(plan)
    (problem,) = caught.value.problems
    assert problem.key == ("lora_r",)
    assert "this needs at least" in problem.message
    assert "ranks up to about" in str(problem.help)


def test_a_model_without_room_for_its_weights_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "this_device", lambda: Device("cpu", 16 * 2**30, 0.5 * 2**30))
    with pytest.raises(UserError, match=r"at least 1[0-9]{2}\.[0-9] GiB: 29\.9 GiB of weights"):
        refuse_impossible(make("8b"))


def test_what_fits_passes_without_a_word(make: Make, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refuse_impossible(make(tiny_model))
    assert capsys.readouterr().out == ""


def test_a_model_that_has_no_shapes_alone_passes_and_is_told_of(
    make: Make, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(plan: Plan) -> Any:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!\nmore of it")

    plan = make(tiny_model)
    refuse_impossible(replace(plan, adapter=Adapter("reading", build)))
    said = capsys.readouterr().out
    assert said.endswith("it has no shapes alone (Cannot copy out of meta tensor; no data!)\n")


def test_a_mistake_of_ours_is_not_taken_for_a_model_without_shapes(
    make: Make, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "held_of", lambda plan, model: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        refuse_impossible(make(tiny_model))


def test_where_one_row_finds_no_room_the_planner_says_what_takes_less(make: Make, tiny_model: Path) -> None:
    plan = make(tiny_model, micro_batch_size=4, share_prefixes=False, sequence_len=512, pad_to_sequence_len=True)
    advice = advice_at_one_row(plan, sample_of(plan).data)
    assert advice.startswith("any one of these takes less: ")
    assert "gradient_checkpointing: true (same result, peak" in advice
    assert "micro_batch_size" not in advice


def test_a_mistake_of_ours_does_not_hide_that_memory_ran_out(
    make: Make, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "held_of", lambda plan, model: 1 / 0)
    plan = make(tiny_model, micro_batch_size=4)
    told = advice_at_one_row(plan, sample_of(plan).data)
    assert told.endswith("take less; how much is not known (ZeroDivisionError: division by zero)")


def test_the_summary_says_how_far_off() -> None:
    values: dict[str, Any] = {"predicted_bytes": 2200 * 2**20, "measured_bytes": 2000 * 2**20}
    assert summary(values) == "peak memory: 2,000 MiB measured, 2,200 MiB predicted (+10 %)"


def test_a_model_that_reads_values_is_told_of_at_the_end(
    make: Make, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(plan: Plan) -> Any:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!\nmore of it")

    plan = replace(make(tiny_model), adapter=Adapter("reading", build))
    trained = TrainResult(None, (1.0,), peak_bytes=20 * 2**30)  # type: ignore[arg-type]
    assert with_expectation(plan, sample_of(plan).data, 1.0, trained) is trained
    said = capsys.readouterr()
    assert said.out.startswith("peak memory: 20.0 GiB measured; it could not be predicted: ")
    assert said.out.endswith("(Cannot copy out of meta tensor; no data!)\n")
    assert said.err == ""
    with pytest.raises(UserError, match="cannot be laid out from shapes alone"):
        lay_out(plan)


def test_a_mistake_of_ours_does_not_end_a_run_but_shows(
    make: Make, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "held_of", lambda plan, model: 1 / 0)
    plan = make(tiny_model)
    trained = TrainResult(None, (1.0,), peak_bytes=20 * 2**30)  # type: ignore[arg-type]
    assert with_expectation(plan, sample_of(plan).data, 1.0, trained) is trained
    said = capsys.readouterr()
    assert "predicting it failed (ZeroDivisionError: division by zero). Nothing of the training is lost" in said.out
    assert "please report it with the traceback above" in said.out
    assert said.err.startswith("Traceback")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is counted by what PyTorch allocated on it")
def test_the_process_counts_with_what_it_was_when_training_began(make: Make, tiny_model: Path) -> None:
    plan = make(tiny_model)
    data = sample_of(plan).data
    model = torch.nn.Linear(1024, 1024)
    weights = 4 * (1024 * 1024 + 1024)
    told = TrainResult(model, (1.0,), peak_bytes=2**30, start_bytes=2**29 + weights)
    assert expectation(plan, data, 7.0, told)["parts"]["process"] == 2**29
    assert expectation(plan, data, 7.0, replace(told, start_bytes=0))["parts"]["process"] == 7
