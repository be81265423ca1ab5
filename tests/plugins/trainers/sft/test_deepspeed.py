"""DeepSpeed moves its optimizer at the end of a backward pass: stood in for here, for the package is not at hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from core import UserError
from plugins.trainers.sft import trainer as trainer_module
from plugins.trainers.sft.loss import summed_loss
from plugins.trainers.sft.trainer import SFTTrainer
from tests.core.plans import make_test_data

Prepare = Callable[..., tuple[Any, Any]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Moves the weights of trainers where accelerate does with DeepSpeed; the number of passes before each move."""
    moved: list[int] = []
    passes = 0
    prepare = SFTTrainer._prepare_for_training

    def as_with_deepspeed(self: Any, *args: Any) -> Any:
        prepared = prepare(self, *args)  # type: ignore[no-untyped-call]
        optimizer = self.optimizer.optimizer
        step = optimizer.step

        def backward(loss: torch.Tensor, **kwargs: Any) -> None:
            nonlocal passes
            passes += 1
            loss.backward()
            if self.accelerator.sync_gradients:
                step()
                optimizer.zero_grad()
                moved.append(passes)

        self.is_deepspeed_enabled = True
        self.accelerator.backward = backward
        self.accelerator.clip_grad_norm_ = lambda *_: 1.0
        optimizer.step = lambda *_: None
        return prepared

    monkeypatch.setattr(SFTTrainer, "_prepare_for_training", as_with_deepspeed)
    return moved


def test_micro_batches_in_parts_move_the_weights_once_a_step(prepare: Prepare, steps: list[int]) -> None:
    data = make_test_data(24)
    settings = {"sample_packing": True, "sequence_len": 24, "gradient_accumulation_steps": 2, "micro_batch_size": 2}
    settings["save_strategy"] = "no"
    result = prepare(data=data, **settings)[0].run()
    assert result.steps == len(steps) > 1
    assert steps[0] == 4  # two micro batches of two parts
    assert all(later > earlier for earlier, later in pairwise(steps))


@pytest.mark.parametrize("first_spoilt", [5, 6])
def test_a_loss_that_is_no_number_is_refused_before_its_weights_move(
    prepare: Prepare, steps: list[int], monkeypatch: pytest.MonkeyPatch, first_spoilt: int
) -> None:
    training, model = prepare(micro_batch_size=2, gradient_accumulation_steps=2, share_prefixes=False)
    calls = 0
    kept: list[torch.Tensor] = []

    def spoiled(*inputs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            kept.extend(parameter.detach().clone() for parameter in model.parameters())
        return summed_loss(*inputs) + (float("nan") if calls == first_spoilt else 0.0)

    monkeypatch.setattr(trainer_module, "summed_loss", spoiled)
    with pytest.raises(UserError, match="loss is nan at step 3 of 6"):
        training.run()
    assert len(steps) == 2
    assert all(torch.equal(*pair) for pair in zip(kept, model.parameters(), strict=True))


def test_a_step_that_finds_no_room_is_not_begun_again(prepare: Prepare, steps: list[int]) -> None:
    training, model = prepare(micro_batch_size=4, share_prefixes=False)

    def refuse(module: Any, args: Any, kwargs: Any) -> None:
        if module.training and len(steps) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 MiB")

    model.register_forward_pre_hook(refuse, with_kwargs=True)
    with pytest.raises(UserError, match="out of memory at step 3: DeepSpeed keeps what the step has computed"):
        training.run()
    assert len(steps) == 2
