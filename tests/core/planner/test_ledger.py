"""The account of meta tensors against what real ones take."""

from __future__ import annotations

import gc

import torch

from core.planner.ledger import ACTIVATIONS, GRADIENTS, LOGITS, Ledger, StandIns

FLOAT = 4


def test_tensors_count_while_they_live() -> None:
    with Ledger(vocabulary=7) as ledger:
        first = torch.empty(10, 10, device="meta")
        second = first * 2
        view = second.t()
        assert ledger.now[ACTIVATIONS] == 200 * FLOAT
        del second, view
        gc.collect()
        assert ledger.now[ACTIVATIONS] == 100 * FLOAT
        torch.empty(3, 7, device="meta")
    assert ledger.peak == 200 * FLOAT
    assert ledger.highest[LOGITS] == 21 * FLOAT


def test_weights_are_left_out_and_gradients_told_apart() -> None:
    layer = torch.nn.Linear(8, 5, bias=False, device="meta")
    ledger = Ledger(vocabulary=1000)
    ledger.ignore(layer.parameters())
    layer.weight.register_post_accumulate_grad_hook(lambda seen: ledger.relabel(seen.grad, GRADIENTS))
    with ledger:
        layer(torch.empty(3, 8, device="meta")).sum().backward()
    assert ledger.now[GRADIENTS] == 40 * FLOAT


def test_a_fused_attention_keeps_no_scores() -> None:
    query = torch.empty(1, 2, 50, 4, device="meta", requires_grad=True)
    with Ledger(vocabulary=1000) as ledger, StandIns(None):
        out = torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
        assert ledger.peak < 2 * 50 * 50 * FLOAT  # what the scores alone would take
        out.sum().backward()
    assert out.shape == query.shape


def test_products_are_cast_under_autocast_and_weights_once() -> None:
    layer = torch.nn.Linear(16, 16, bias=False, device="meta")
    ledger = Ledger(vocabulary=1000)
    ledger.ignore(layer.parameters())
    with ledger, StandIns(torch.bfloat16):
        out = layer(layer(torch.empty(4, 16, device="meta")))
    assert out.dtype == torch.bfloat16
    assert ledger.now[ACTIVATIONS] < 2 * 256 * 2 + 4 * 4 * 16 * FLOAT  # one copy of the weight, not two


def test_each_phase_has_a_highest_moment_of_its_own() -> None:
    with Ledger(vocabulary=7) as ledger:
        first = torch.empty(30, device="meta")
        del first
        second = torch.empty(10, device="meta")
        ledger.next_phase()
        third = torch.empty(15, device="meta")
        assert [phase.peak for phase in ledger.phases] == [30 * FLOAT, 25 * FLOAT]
        assert ledger.peak == 30 * FLOAT
        del second, third
    assert ledger.now[ACTIVATIONS] == 0
