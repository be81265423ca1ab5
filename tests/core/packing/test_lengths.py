"""Packed rows through flash attention: cumulative lengths, and the loss and gradients they lead to."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import modeling_flash_attention_utils as flash

from core.packing import (
    attention_mask,
    collate_bins,
    lay_out_rows,
    move_batch,
    pack_step,
    probe_isolated_attention,
    supports_isolated_attention,
    target_logits,
)
from core.packing.lengths import chained, cumulative_lengths, goes_by_lengths
from core.packing.rows import blank_bin
from tests.core.packing.double import StayDouble
from tests.core.packing.flash_kernels import Kernels, in_place_of_flash
from tests.core.packing.packing_cases import (
    believing,
    gradients,
    largest_difference,
    make_model,
    mean_loss,
    plain_loss,
    ragged_rows,
    reference,
)

LIMITS = {torch.float32: 1e-5, torch.float64: 1e-9}
NAME = "flash_attention_2"
KINDS = ["llama", "qwen2-windowed", "mistral", "gemma2", "gemma3", "gpt_neox", "granite"]


@pytest.fixture
def kernels(monkeypatch):
    return in_place_of_flash(monkeypatch)


def packed_loss(model, rows, *, chunked=False, fold=True):
    bins = pack_step(rows, 96, share_prefixes=False)[0]
    groups = [bins] if fold else [[b] for b in bins]
    batches = [collate_bins(group, model.config, pad_to_multiple_of=8) for group in groups]
    return mean_loss(model, batches, chunk=5 if chunked else None)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_equal_the_padded_computation(kind, dtype, kernels):
    model, limit = believing(kind, NAME, dtype), LIMITS[dtype]
    assert supports_isolated_attention(model.config, share=False) == (True, "")
    rows = ragged_rows(1)
    with StayDouble():
        expected, expected_gradients = reference(model, rows)
        for fold in (True, False):
            kernels.calls.clear()
            loss = packed_loss(model, rows, fold=fold)
            assert abs(loss - expected) <= limit * abs(expected), fold
            assert largest_difference(gradients(model, loss), expected_gradients) <= limit, fold
            assert any(len(bounds) > 4 for bounds in kernels.calls)


def test_checkpointing_and_the_chunked_head_change_nothing(kernels):
    model, rows = believing("llama", NAME, torch.float32), ragged_rows(5)
    expected = gradients(model, packed_loss(model, rows))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert largest_difference(gradients(model, packed_loss(model, rows, chunked=True)), expected) <= 1e-5


def test_the_probe_sees_lengths_that_are_not_heeded(kernels, monkeypatch):
    model = believing("llama", NAME, torch.float32)
    assert probe_isolated_attention(model, share=False) == (True, "")
    monkeypatch.setattr(kernels, "varlen", lambda q, k, v, **kwargs: torch.zeros_like(q))
    monkeypatch.setattr("transformers.integrations.flash_attention._flash_attention_forward", _one_row)
    assert not probe_isolated_attention(model, share=False)[0]


def _one_row(query, key, value, attention_mask, query_length, is_causal, softmax_scale=None, **kwargs):
    return Kernels().plain(query, key, value, softmax_scale=softmax_scale)


def test_a_plain_batch_goes_without_lengths(kernels):
    model = believing("llama", NAME, torch.float32)
    rows = [{"input_ids": [3, 4, 5, 6], "labels": [-100, 4, 5, 6]}, {"input_ids": [7, 8], "labels": [-100, 8]}]
    batch = collate_bins([lay_out_rows([row]) for row in rows], model.config)
    assert "cu_seq_lens" not in batch
    target_logits(model, batch)
    assert not kernels.calls


def test_what_flash_attention_cannot_say():
    config = make_model("llama", "eager", torch.float32).config
    supported, reason = supports_isolated_attention(config, NAME)
    assert not supported
    assert reason == (
        "attention implementation 'flash_attention_2' keeps rows apart by their lengths alone, "
        "and cannot share a prefix; 'sdpa' can"
    )
    assert supports_isolated_attention(config, NAME, share=False) == (True, "")
    stateful = make_model("mamba", "eager", torch.float32).config
    assert not supports_isolated_attention(stateful, NAME, share=False)[0]
    with pytest.raises(ValueError, match="share a prefix"):
        collate_bins([lay_out_rows(ragged_rows(0))], config, attn_implementation=NAME)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("flash_attention_3", True), ("kernels-community/flash-attn3", True), ("flex_attention", False), (None, False)],
)
def test_attention_that_goes_by_lengths(name, expected):
    assert goes_by_lengths(name) is expected


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(1, 16))
def test_lengths_describe_the_blocks_of_the_mask(seed, counts, multiple):
    bins = [
        lay_out_rows(ragged_rows(seed + k, count), share_prefixes=False) if count else blank_bin()
        for k, count in enumerate(counts)
    ]
    whole = chained(bins)
    bounds = cumulative_lengths(whole)
    mask = attention_mask(torch.from_numpy(whole.reach)[None], torch.from_numpy(whole.positions)[None])[0, 0]
    rows = torch.from_numpy(bounds).diff()
    number = torch.repeat_interleave(torch.arange(len(rows)), rows)
    places = torch.arange(len(whole))
    assert torch.equal(mask, (number[:, None] == number) & (places[:, None] >= places))
    assert (whole.positions == places.numpy() - bounds[:-1].repeat(rows.numpy())).all()
    # the bins in lines predict what the one line predicts
    starts = torch.tensor([0, *(len(b) for b in bins)]).cumsum(0)
    placed = [torch.from_numpy(b.target_places) + start for b, start in zip(bins, starts, strict=False)]
    assert torch.equal(torch.from_numpy(whole.target_places), torch.cat(placed))
    if len(rows) > len(bins):
        config = make_config()
        batch = collate_bins(bins, config, pad_to_multiple_of=multiple)
        assert batch["input_ids"].shape == (1, -(-len(whole) // multiple) * multiple)
        assert batch["cu_seq_lens"][: len(bounds)].tolist() == bounds.tolist()
        assert batch["cu_seq_lens"][-1] == batch["input_ids"].shape[1]


def make_config():
    from transformers import LlamaConfig

    config = LlamaConfig()
    config._attn_implementation = NAME
    return config


@pytest.mark.skipif(
    not (torch.cuda.is_available() and flash.is_flash_attn_2_available()),
    reason="the kernel itself needs a GPU and the package flash-attn",
)
def test_the_kernel_itself():
    import transformers as hf

    config = hf.LlamaConfig(
        vocab_size=61, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation=NAME, dtype=torch.bfloat16).cuda()
    rows = ragged_rows(3)
    batch = move_batch(collate_bins([lay_out_rows(rows, share_prefixes=False)], config), "cuda")
    loss = torch.nn.functional.cross_entropy(target_logits(model, batch).float(), batch["target_ids"])
    found = gradients(model, loss)
    model.cpu().float().set_attn_implementation("sdpa")
    expected = gradients(model, plain_loss(model, rows))
    assert largest_difference({name: value.cpu().float() for name, value in found.items()}, expected) <= 0.1
