from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from core.packing import (
    collate_bins,
    kept_positions,
    lay_out_rows,
    probe_chunked_head,
    target_hidden,
    target_logits,
    trained_token_loss,
)
from tests.core.packing.packing_cases import make_model, ragged_rows


def reference(hidden, head, ids, scale, softcap):
    logits = head(hidden) * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return functional.cross_entropy(logits, ids, reduction="sum")


class Wrapped(torch.nn.Module):
    """A head that is not a plain linear layer."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden):
        return self.inner(hidden)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.5, None), (1.0, 2.0), (0.25, 3.0)])
@pytest.mark.parametrize("frozen", [False, True])
def test_chunks_give_loss_and_gradients_of_the_whole(wrap, scale, softcap, frozen):
    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 31, bias=not frozen).double().requires_grad_(not frozen)
    head = Wrapped(linear) if wrap else linear
    hidden = torch.randn(23, 8, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(31, (23,))
    wanted = [hidden, *(p for p in linear.parameters() if p.requires_grad)]
    expected = reference(hidden, head, ids, scale, softcap)
    found = trained_token_loss(hidden, head, ids, scale=scale, softcap=softcap, chunk=5)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    for got, want in zip(
        torch.autograd.grad(found / 7, wanted), torch.autograd.grad(expected / 7, wanted), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_without_gradients_the_loss_alone_is_computed():
    head = torch.nn.Linear(8, 31)
    hidden = torch.randn(4, 8)
    with torch.no_grad():
        loss = trained_token_loss(hidden, head, torch.tensor([1, 2, 3, 4]))
    assert not loss.requires_grad


def test_no_targets_lose_nothing_and_still_reach_the_parameters():
    head = torch.nn.Linear(8, 31)
    loss = trained_token_loss(torch.zeros(0, 8, requires_grad=True), head, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert head.weight.grad.abs().sum() == 0


def test_logits_exist_at_trained_places_only():
    model, rows = make_model("llama", "sdpa", torch.float32), ragged_rows(0)
    batch = collate_bins([lay_out_rows(rows[:6]), lay_out_rows(rows[6:])], model.config)
    inputs, index = kept_positions(model, batch)
    logits = model(**inputs).logits
    assert logits.shape[0] == len(torch.unique(batch["target_positions"])) < batch["input_ids"].numel()
    all_logits = model(**{k: v for k, v in inputs.items() if k != "logits_to_keep"}).logits.flatten(0, 1)
    torch.testing.assert_close(logits[index], all_logits[batch["target_positions"]])


def test_a_model_without_logits_to_keep_computes_them_all():
    class Plain(torch.nn.Module):
        def forward(self, input_ids, attention_mask, position_ids):
            class Output:
                logits = functional.one_hot(input_ids, 61).float()

            return Output()

    batch = collate_bins([lay_out_rows(ragged_rows(0)), lay_out_rows(ragged_rows(1))], object())
    logits = target_logits(Plain(), batch)
    assert torch.equal(logits.argmax(-1), batch["input_ids"].flatten()[batch["target_positions"]])


def test_one_column_list_serves_models_that_take_no_flags(monkeypatch):
    import sys

    model, rows = make_model("llama", "sdpa", torch.float32), ragged_rows(0)
    batch = collate_bins([lay_out_rows(rows[:6]), lay_out_rows(rows[6:])], model.config)
    flags = target_logits(model, batch)
    monkeypatch.delattr(sys.modules[type(model).__module__], "slice_logits_to_keep")
    assert "logits_to_keep" in kept_positions(model, batch)[0]
    assert kept_positions(model, batch)[0]["logits_to_keep"].ndim == 1
    inputs, index = kept_positions(model, batch)
    monkeypatch.undo()
    logits = model(**inputs).logits
    torch.testing.assert_close(logits.reshape(-1, logits.shape[-1])[index], flags)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "granite", "cohere", "gpt_neox", "gpt2"])
def test_the_head_of_known_families_can_be_called_apart(kind):
    model = make_model(kind, "eager", torch.float32)
    assert probe_chunked_head(model) == (True, "")
    assert model.training


def test_a_model_with_logits_of_its_own_making_is_found_out():
    supported, reason = probe_chunked_head(make_model("hyperclovax", "eager", torch.float32))
    assert not supported
    assert "after the output head" in reason


def test_a_head_that_something_else_replaced_is_left_alone():
    model = make_model("llama", "sdpa", torch.float32)
    head = model.get_output_embeddings()
    batch = collate_bins([lay_out_rows(ragged_rows(0))], model.config)
    torch.testing.assert_close(head(target_hidden(model, batch)), target_logits(model, batch))
    assert "forward" not in vars(head)
    head.forward = head.forward
    with pytest.raises(ValueError, match="already replaced"):
        target_hidden(model, batch)
