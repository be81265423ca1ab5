from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from core.packing import target_logits
from plugins.trainers.sft import loss
from plugins.trainers.sft.collate import collate_padded, without_targets
from plugins.trainers.sft.loss import head_of, summed_loss

ROWS = [
    {"input_ids": [5, 6, 7, 8, 9], "labels": [-100, -100, 7, 8, 9]},
    {"input_ids": [10, 11, 12], "labels": [10, -100, 12]},
    {"input_ids": [13], "labels": [13]},
]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


def reference(model: Any) -> torch.Tensor:
    """The mean loss that transformers itself computes for the same rows, one at a time, times their targets."""
    total = torch.zeros(())
    for row in ROWS:
        targets = sum(label != -100 for label in row["labels"][1:])
        if targets:
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
            total = total + model(input_ids=ids, labels=labels).loss * targets
    return total


def test_collate_pads_right_and_names_each_target() -> None:
    batch = collate_padded(ROWS, pad_token_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [10, 11, 12, 0, 0], [13, 0, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4]] * 3
    # the first token of a row cannot be predicted, so the labels 10 and 13 are no targets
    assert batch["target_positions"].tolist() == [1, 2, 3, 6]
    assert batch["target_ids"].tolist() == [7, 8, 9, 12]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_the_loss_is_that_of_the_unpadded_rows(model: Any) -> None:
    loss = summed_loss(model, collate_padded(ROWS, 0), head_of(model))
    assert loss.item() == pytest.approx(reference(model).item(), rel=1e-6)


@pytest.mark.parametrize("train_head", [False, True])
def test_in_chunks_the_loss_and_every_gradient_are_the_same(
    model: Any, train_head: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradients(chunked: bool) -> tuple[float, list[torch.Tensor]]:
        copy = deepcopy(model)
        copy.lm_head.weight.requires_grad_(train_head)
        loss_value = summed_loss(copy, collate_padded(ROWS, 0), head_of(copy, chunked=chunked))
        loss_value.backward()
        return loss_value.item(), [p.grad for p in copy.parameters() if p.grad is not None]

    called: list[int] = []
    chunks = loss.trained_token_loss
    monkeypatch.setattr(loss, "trained_token_loss", lambda *a, **k: called.append(1) or chunks(*a, **k, chunk=3))
    whole, expected = gradients(False)
    assert not called
    value, found = gradients(True)
    assert called
    assert value == pytest.approx(whole, rel=1e-6)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_head_runs_only_where_it_is_needed(model: Any) -> None:
    shapes: list[torch.Size] = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    summed_loss(model, collate_padded(ROWS, 0), head_of(model))
    hook.remove()
    # the four targets; older transformers take columns only: 1, 2 and 3 of three lines
    assert [shape[:-1].numel() for shape in shapes] in ([4], [9])


def test_a_target_may_be_named_several_times(model: Any) -> None:
    batch = collate_padded(ROWS, 0)
    full = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.flatten(0, 1)
    batch["target_positions"] = torch.tensor([3, 1, 3])
    batch["target_ids"] = torch.tensor([9, 7, 4])
    torch.testing.assert_close(target_logits(model, batch), full[[3, 1, 3]])


def test_a_batch_without_targets_is_an_exact_zero_that_reaches_the_weights(model: Any) -> None:
    model.zero_grad()
    loss = summed_loss(model, without_targets(collate_padded(ROWS, 0)), head_of(model))
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_a_model_without_some_arguments_is_not_given_them() -> None:
    class Old(GPT2LMHeadModel):
        def forward(self, input_ids: Any = None, attention_mask: Any = None) -> Any:  # type: ignore[override]
            return super().forward(input_ids=input_ids, attention_mask=attention_mask)

    torch.manual_seed(0)
    model = Old(GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=2, n_positions=16)).eval()
    assert not head_of(model).positions
    assert summed_loss(model, collate_padded(ROWS, 0), head_of(model)).isfinite()


def test_a_base_held_in_bfloat16_on_a_processor_is_computed_in_it() -> None:
    from peft import LoraConfig, get_peft_model

    from tests.core.packing.packing_cases import make_model

    base = make_model("llama", "sdpa", torch.bfloat16)
    base.requires_grad_(False)
    adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
    head = head_of(adapted)
    assert head.mixed
    seen: list[torch.dtype] = []
    hook = (
        base.model.layers[0]
        .mlp.down_proj.lora_A["default"]
        .register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    )
    rows = [{"input_ids": [1, 2, 3, 4], "labels": [-100, 2, 3, 4]}]
    summed_loss(adapted, collate_padded(rows, 0), head).backward()
    hook.remove()
    assert seen == [torch.bfloat16]
    assert all(p.grad.dtype == torch.float32 for p in adapted.parameters() if p.requires_grad)
    assert not head_of(make_model("llama", "sdpa", torch.float32)).mixed
