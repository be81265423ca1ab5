from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from core import UserError
from core.processes import start_processes
from plugins.trainers.sft import arguments
from plugins.trainers.sft.arguments import training_arguments
from plugins.trainers.sft.batches import BatchPlan
from tests.core.plans import make_test_plan

ON_CPU = not torch.accelerator.is_available()


@pytest.fixture
def make(tmp_path: Path, tiny_model: Path) -> Any:
    """Arguments of a recipe with 100 rows in 25 steps an epoch, with validation data unless told otherwise."""

    def arguments(validates: bool = True, **values: Any) -> TrainingArguments:
        plan = make_test_plan(tmp_path, tiny_model, **values)
        start_processes(plan)
        batches = BatchPlan([(row,) for row in range(100)], [1] * 100, micro_batch_size=4)
        return training_arguments(plan, batches, validates=validates)

    return arguments


def test_keys_of_the_same_meaning_arrive(make: Any) -> None:
    made = make(
        learning_rate=3e-4,
        weight_decay=0.1,
        adam_beta2=0.95,
        max_grad_norm=0.3,
        save_total_limit=2,
        seed=7,
        optimizer="adafactor",
        num_epochs=2,
        dataloader_num_workers=2,
    )
    assert (made.learning_rate, made.weight_decay, made.adam_beta2, made.max_grad_norm) == (3e-4, 0.1, 0.95, 0.3)
    assert (made.save_total_limit, made.seed, made.optim.value, made.num_train_epochs) == (2, 7, "adafactor", 2)
    assert made.report_to == []
    assert made.dataloader_num_workers == 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"num_epochs": 1}, 2),  # a tenth of 25 steps
        ({"num_epochs": 100}, 100),
        ({"max_steps": 300}, 30),
        ({"warmup_steps": 17}, 17),
        ({"warmup_steps": 0.2}, 0.2),
        ({"warmup_steps": 0}, 0),
        ({"warmup_ratio": 0.1}, 3),
    ],
)
def test_warmup(make: Any, values: dict[str, Any], expected: float) -> None:
    assert make(**values).warmup_steps == expected


@pytest.mark.parametrize(
    ("values", "strategy", "steps"),
    [
        ({}, "epoch", None),
        ({"evals_per_epoch": 2}, "steps", 13),
        ({"evals_per_epoch": 0}, "no", None),
        ({"eval_steps": 4}, "steps", 4),
        ({"eval_strategy": "no"}, "no", None),
        ({"validates": False}, "no", None),
        ({"validates": False, "evals_per_epoch": 2}, "no", None),
    ],
)
def test_when_to_evaluate(make: Any, values: dict[str, Any], strategy: str, steps: int | None) -> None:
    made = make(**values)
    assert made.eval_strategy.value == strategy
    if steps:
        assert made.eval_steps == steps


@pytest.mark.parametrize(
    ("values", "strategy", "steps"),
    [
        ({}, "steps", 500),
        ({"save_steps": 7}, "steps", 7),
        ({"saves_per_epoch": 4}, "steps", 7),
        ({"save_strategy": "no"}, "no", None),
        ({"save_strategy": "epoch"}, "epoch", None),
        ({"load_best_model_at_end": True}, "epoch", None),
        ({"load_best_model_at_end": True, "eval_steps": 5}, "steps", 5),
    ],
)
def test_when_to_save(make: Any, values: dict[str, Any], strategy: str, steps: int | None) -> None:
    made = make(**values)
    assert made.save_strategy.value == strategy
    if steps:
        assert made.save_steps == steps


def test_the_best_model_is_the_one_with_the_lowest_validation_loss(make: Any) -> None:
    made = make(load_best_model_at_end=True)
    assert (made.metric_for_best_model, made.greater_is_better) == ("eval_loss", False)


def test_cosine_with_a_floor(make: Any) -> None:
    made = make(lr_scheduler="cosine", cosine_min_lr_ratio=0.1)
    assert (made.lr_scheduler_type.value, made.lr_scheduler_kwargs) == ("cosine_with_min_lr", {"min_lr_rate": 0.1})


def test_optimizer_arguments_as_a_map(make: Any) -> None:
    assert make(optim_args={"rank": 8, "scale": 0.5}).optim_args == "rank=8,scale=0.5"


@pytest.mark.parametrize("asked", [True, "offload"])
def test_gradient_checkpointing_is_non_reentrant(make: Any, asked: Any) -> None:
    made = make(gradient_checkpointing=asked)
    assert made.activation_checkpointing
    assert made.activation_checkpointing_kwargs["use_reentrant"] is False
    assert made.activation_checkpointing_kwargs.get("offload", False) is (asked == "offload" and not ON_CPU)


@pytest.mark.parametrize(("there", "expected"), [(True, True), (False, None)])
def test_activations_leave_an_accelerator_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, there: bool, expected: Any
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: there)
    plan = make_test_plan(tmp_path, tmp_path, gradient_checkpointing="offload")
    settings = arguments._checkpointing(plan)["activation_checkpointing_kwargs"]
    assert settings.get("offload") is expected
    assert ("in host memory already" in capsys.readouterr().out) is not there


def test_a_gpu_that_imitates_bfloat16_does_not_compute_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for has, expected in ((False, False), (True, True)):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True, has=has: has or including_emulation
        )
        assert arguments._precision(make_test_plan(tmp_path, tmp_path))["bf16"] is expected


@pytest.mark.skipif(not ON_CPU, reason="about runs without a GPU")
def test_precision_on_cpu(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(bf16="auto").bf16 is False
    assert make(bf16=True).bf16 is True
    assert make(bf16="full").bf16 is False
    capsys.readouterr()
    assert make(tf32=True).tf32 is None
    assert "tf32: true has no effect here" in capsys.readouterr().out
    assert make(tf32=False).tf32 is None
    assert capsys.readouterr().out.count("tf32") == 0
    assert make(fp16=True).fp16 is False
    assert "fp16: true has no effect here" in capsys.readouterr().out


@pytest.mark.skipif(not ON_CPU, reason="about runs without a GPU")
def test_fsdp_on_cpu_is_met_with_a_word(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert not make(fsdp=["full_shard", "auto_wrap"]).fsdp
    assert "fsdp has no effect on CPU" in capsys.readouterr().out


def test_a_metric_that_is_never_measured_is_refused(make: Any) -> None:
    with pytest.raises(UserError, match="early_stopping_patience needs an evaluation"):
        make(validates=False, early_stopping_patience=2)


def test_what_transformers_refuses_is_the_users_to_mend(make: Any) -> None:
    with pytest.raises(UserError, match="do not go together"):
        make(load_best_model_at_end=True, save_steps=3, eval_steps=2)


def test_tracker_names_reach_the_arguments(make: Any) -> None:
    made = make(trackio_project_name="icd", trackio_space_id="me/space", trackio_run_name="first")
    assert (made.project, made.trackio_space_id, made.run_name) == ("icd", "me/space", "first")
