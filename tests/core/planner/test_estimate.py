from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import MambaConfig

from core.planner import lay_out
from core.planner.estimate import default_workload
from core.testing.tiny import make_tiny_tokenizer
from core.types import Plan
from tests.core.plans import make_test_data, make_test_plan


@pytest.mark.parametrize(
    ("values", "ranks", "steps"),
    [
        ({}, 1, 6),
        ({"num_epochs": 2}, 1, 12),
        ({"num_epochs": 0.5}, 1, 3),
        ({"num_epochs": 0.01}, 1, 1),
        ({"num_epochs": 1.25}, 1, 8),
        ({"num_epochs": 0.5}, 2, 2),
        ({"num_epochs": 0.5, "max_steps": 9}, 1, 9),
    ],
)
def test_steps_of_parts_of_an_epoch(tmp_path: Path, values: dict[str, Any], ranks: int, steps: int) -> None:
    """22 rows, 4 to a step on each rank."""
    plan = make_test_plan(tmp_path, tmp_path, **values)
    plan = replace(plan, trainer=replace(plan.trainer, name="silent"))
    load = default_workload(plan, None, make_test_data(22), ranks)
    assert load.steps == steps
    assert "'silent' does not say" in load.notes[0]


def test_a_model_without_attention_is_planned(make: Callable[..., Plan], tmp_path: Path) -> None:
    """Mamba's configuration names no heads."""
    make_tiny_tokenizer(tmp_path)
    config = MambaConfig(vocab_size=400, hidden_size=32, state_size=8, num_hidden_layers=2)
    config.save_pretrained(tmp_path)
    made = lay_out(make(tmp_path, sequence_len=256), gpu_memory=24.0).estimates[0]
    assert made.work.per_step > 0
    assert made.peak > made.parts["weights"] > 0


@pytest.mark.parametrize(
    ("values", "held", "not_held"),
    [({"adapter": "qlora"}, "4 bits", "8 bits"), ({"adapter": "lora", "load_in_8bit": True}, "8 bits", "4 bits")],
)
def test_small_layers_are_held_in_the_bits_that_were_asked_for(
    make: Callable[..., Plan], tiny_model: Path, values: dict[str, Any], held: str, not_held: str
) -> None:
    """The tables of 4 bits weigh more than so small a layer."""
    made = lay_out(make(tiny_model, sequence_len=256, **values), gpu_memory=24.0).estimates[0]
    assert held in made.weights_dtype
    assert not_held not in made.weights_dtype
