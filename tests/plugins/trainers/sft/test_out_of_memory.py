"""Memory that runs out in a step: same rows, same weights, or a clean stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core import UserError
from core.memory import is_out_of_memory
from plugins.trainers.sft.batches import MicroBatch
from plugins.trainers.sft.out_of_memory import divided
from tests.core.plans import make_test_data

Prepare = Callable[..., tuple[Any, Any]]


def full_above(model: Any, lines: int, *, from_call: int = 0, backward: bool = False) -> list[int]:
    """Let forward passes of more than `lines` rows fail for lack of memory; returns the sizes that went through."""
    seen: list[int] = []
    calls = [0]
    embedded: list[torch.Tensor] = []
    model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: embedded.append(output))

    def watch(module: Any, args: Any, kwargs: Any) -> None:
        calls[0] += 1
        size = len(kwargs["input_ids"])
        if module.training and torch.is_grad_enabled() and size > lines and calls[0] > from_call and not backward:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 MiB")
        seen.append(size)

    def refuse(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        if backward and calls[0] > from_call and len(kwargs["input_ids"]) > lines:

            def fail(grad: Any) -> None:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")

            # of what comes last in the backward pass: gradients of all later layers are there already
            embedded[-1].register_hook(fail)

    model.register_forward_pre_hook(watch, with_kwargs=True)
    model.register_forward_hook(refuse, with_kwargs=True)
    return seen


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("layout", [{"share_prefixes": False}, {"share_prefixes": False, "group_by_length": True}])
def test_a_step_begun_again_ends_at_the_same_weights(
    prepare: Prepare, capsys: pytest.CaptureFixture[str], backward: bool, layout: dict[str, Any]
) -> None:
    same = {"micro_batch_size": 4, "gradient_accumulation_steps": 2, "num_epochs": 2, **layout}
    data = make_test_data(27)
    straight, model = prepare("straight", data=data, **same)
    expected = straight.run()
    training, divided_model = prepare("divided", data=data, **same)
    seen = full_above(divided_model, 2, from_call=5, backward=backward)
    result = training.run()
    assert result.losses == pytest.approx(expected.losses, rel=1e-5)
    assert result.tokens == expected.tokens
    for ours, theirs in zip(divided_model.parameters(), model.parameters(), strict=True):
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm()
    assert max(seen[-4:]) <= 2
    told = capsys.readouterr().out
    assert told.count("begun again with the same rows, from now on 2 at a time, 4 times accumulated") == 1


def test_one_row_that_does_not_fit_ends_the_training_with_advice_and_a_checkpoint(
    prepare: Prepare, tmp_path: Path
) -> None:
    training, model = prepare(micro_batch_size=4, share_prefixes=False)
    full_above(model, 0, from_call=3)
    with pytest.raises(UserError, match="out of memory at step 4: one row at a time does not fit") as caught:
        training.run()
    assert "gradient_checkpointing" in str(caught.value.help)
    assert (tmp_path / "one" / "out" / "checkpoint-3" / "trainer_state.json").exists()
    assert "checkpoint-3" in caught.value.message


def test_an_optimizer_without_room_for_its_states_ends_the_training_with_advice(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, _ = prepare("states", data=make_test_data(8), micro_batch_size=4)

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 52 GiB")

    monkeypatch.setattr(torch.optim.AdamW, "step", fail)
    with pytest.raises(UserError, match="out of memory at step 1, outside of its forward and backward") as error:
        training.run()
    assert error.value.help


def test_another_error_is_not_taken_for_it(prepare: Prepare) -> None:
    training, model = prepare(micro_batch_size=4)

    def fail(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        training.run()


def test_what_counts_as_out_of_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not is_out_of_memory(RuntimeError("device-side assert"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_without_room_says_it_in_words_that_are_known() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**46, device="cuda")
    assert is_out_of_memory(error.value)


def test_pieces_hold_every_unit_once_in_order() -> None:
    batch = MicroBatch((5, 3, 9, 1, 7))
    for pieces in (1, 2, 3, 4, 8):
        made = divided(batch, pieces)
        assert [unit for piece in made for unit in piece.units] == [5, 3, 9, 1, 7]
        assert max(len(piece.units) for piece in made) - min(len(piece.units) for piece in made) <= 1
    assert not divided(MicroBatch((5,), counted=False), 4)[0].counted
