"""Plans of tiny models against what those models really hold, and of large ones against arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.models import parameter_counts
from core.planner import lay_out
from core.planner.device import CUDA_CONTEXT, GIB
from core.processes import start_processes
from core.types import Plan

Make = Callable[..., Plan]


@pytest.mark.parametrize("values", [{}, {"adapter": "lora", "lora_target_linear": True}, {"adapter": "qlora"}])
def test_parameters_are_those_of_the_real_model(make: Make, tiny_model: Path, values: dict[str, Any]) -> None:
    plan = make(tiny_model, **values)
    (own, *others) = lay_out(plan).estimates
    start_processes(plan)
    assert (own.trained, own.total) == parameter_counts(plan.adapter.build(plan))
    assert own.own
    assert {own.name, *(other.name for other in others)} == {"full", "lora", "qlora"}
    assert own.fits


def test_weights_gradients_and_optimizer_of_full_tuning(make: Make, tiny_model: Path) -> None:
    own = lay_out(make(tiny_model)).estimates[0]
    assert own.parts["weights"] == pytest.approx(4 * own.total, rel=0.01)
    assert own.parts["gradients"] == 4 * own.total
    assert own.parts["optimizer"] == 8 * own.total


def test_a_larger_micro_batch_longer_rows_and_no_checkpointing_take_more(make: Make, tiny_model: Path) -> None:
    def activations(**values: Any) -> float:
        base = {"micro_batch_size": 4, "share_prefixes": False}
        return lay_out(make(tiny_model, **{**base, **values})).estimates[0].parts["activations"]

    plain = activations()
    assert activations(micro_batch_size=8) > 1.8 * plain
    checkpointed = activations(micro_batch_size=8, gradient_checkpointing=True)
    assert checkpointed < 1.5 * plain
    # on a CPU there is nowhere else to keep them
    assert activations(micro_batch_size=8, gradient_checkpointing="offload") == checkpointed
    assert activations(sequence_len=64, pad_to_sequence_len=True) < activations(pad_to_sequence_len=True) / 8


def test_8b_lora_in_bfloat16(make: Make) -> None:
    """8.03e9 weights of 2 bytes; r=16 on all linear layers: 41.9 million numbers, 0.52 %."""
    lora = {"adapter": "lora", "lora_r": 16, "lora_target_linear": True, "lora_dropout": 0.0}
    own = lay_out(make("8b", **lora, micro_batch_size=1, sequence_len=2048), gpu_memory=80).estimates[0]
    assert own.trained == 41_943_040
    assert own.total - own.trained == 8_030_261_248
    assert own.weights_dtype == "bfloat16"
    assert own.trained_dtype == "float32"
    assert own.parts["weights"] == pytest.approx(2 * 8_030_261_248 + 4 * 41_943_040, rel=1e-3)
    assert own.parts["optimizer"] == 8 * 41_943_040
    # bytes that a layer of width h keeps of each token: 2 norms 12 h, query, key and value 3 h, what attention gives
    # 2 h, and 4 times the 3.5 h inner values 28 h; nothing of [length, vocabulary]
    assert own.parts["activations"] == pytest.approx(45 * 4096 * 2048 * 32, rel=0.03)
    assert own.parts["logits"] < 0.5 * GIB
    assert own.fits


def test_full_tuning_in_bfloat16_has_states_in_float32(make: Make) -> None:
    """8.03e9 weights and gradients of 2 bytes and two states of 4: 12 bytes each; and what rounding one takes."""
    settings = {"micro_batch_size": 1, "sequence_len": 2048, "gradient_checkpointing": True}
    layout = lay_out(make("8b", **settings), gpu_memory=192)
    own, largest = layout.estimates[0], 128256 * 4096
    assert own.weights_dtype == own.trained_dtype == "bfloat16"
    assert own.parts["weights"] == pytest.approx(2 * 8_030_261_248, rel=1e-3)
    assert own.parts["gradients"] == 2 * 8_030_261_248
    assert own.parts["optimizer"] == 8 * 8_030_261_248
    assert own.peak >= 12 * 8_030_261_248 + 8 * largest
    assert any("rounded stochastically" in note for note in own.notes)


@pytest.mark.parametrize(("optimizer", "bytes_each"), [("adamw_torch_fused", 8), ("adagrad", 2)])
def test_what_an_optimizer_keeps_of_weights_in_bfloat16(
    make: Make, tiny_model: Path, optimizer: str, bytes_each: int
) -> None:
    """One that moves weights together keeps its states as they are held, and loses small updates."""
    own = lay_out(make(tiny_model, bf16=True, optimizer=optimizer)).estimates[0]
    assert own.parts["optimizer"] == bytes_each * own.total
    assert any("rounded stochastically" in note for note in own.notes) is (bytes_each == 8)


def test_70b_qlora_at_2k_tokens_with_checkpointing(make: Make) -> None:
    """68.5e9 packed weights at 0.516 bytes and two embeddings of 1.05e9 in bfloat16: 36.8 GiB of weights."""
    plan = make(
        "70b",
        adapter="qlora",
        lora_r=16,
        lora_target_linear=True,
        micro_batch_size=1,
        sequence_len=2048,
        gradient_checkpointing=True,
    )
    layout = lay_out(plan, gpu_memory=48)
    own = layout.estimates[0]
    assert own.trained == 207_093_760
    assert own.total - own.trained == 70_553_706_496
    assert 36 * GIB < own.parts["weights"] < 39 * GIB
    assert own.peak < 46 * GIB
    assert own.fits
    full = next(estimate for estimate in layout.estimates if estimate.name == "full")
    assert not full.fits


def test_what_does_not_fit_is_told_what_would(make: Make) -> None:
    plan = make("small", adapter="lora", lora_target_linear=True, micro_batch_size=32, sequence_len=512)
    layout = lay_out(plan, gpu_memory=4)
    assert not layout.estimates[0].fits
    assert layout.advice
    for advice in layout.advice:
        assert advice.peak < 4 * GIB
    assert any(advice.same for advice in layout.advice)
    text = "\n".join(layout.lines())
    assert "NO" in text
    assert "gradient_checkpointing: true" in text


def test_ranks_share_by_strategy(make: Make) -> None:
    plan = make("small", micro_batch_size=1, sequence_len=256, gradient_checkpointing=True)
    layouts = {
        strategy: lay_out(plan, gpu_memory=80, ranks=8, strategy=strategy) for strategy in ("ddp", "fsdp", "zero3")
    }
    peaks = {strategy: layout.estimates[0].peak - CUDA_CONTEXT for strategy, layout in layouts.items()}
    assert peaks["fsdp"] < peaks["ddp"] / 2
    assert peaks["zero3"] < peaks["ddp"] / 2
