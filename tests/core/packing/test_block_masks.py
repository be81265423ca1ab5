"""Packed rows through flex attention: the mask function, its blocks, and the loss and gradients they lead to."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import flex_attention as torchs_own
from torch.nn.attention.flex_attention import create_mask
from transformers import masking_utils
from transformers.integrations import flex_attention as integration

from core.packing import (
    attention_mask,
    collate_bins,
    lay_out_rows,
    mask_windows,
    move_batch,
    pack_step,
    probe_isolated_attention,
    supports_isolated_attention,
    target_logits,
)
from core.packing.block_masks import BLOCK, NAME, block_mask, block_masks, computed_pairs
from tests.core.packing.double import StayDouble
from tests.core.packing.packing_cases import (
    WINDOW,
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
KINDS = ["llama", "qwen2-windowed", "mistral", "gemma2", "gemma3", "gpt_neox", "granite"]


@pytest.fixture
def uncompiled(monkeypatch):
    """transformers compiles flex attention, and torch has no backward pass of that for processors: here plain products
    under the very mask function take the place of its kernel."""

    def attend(query, key, value, training=False, *, block_mask, score_mod, scale, enable_gqa, **kwargs):
        if enable_gqa:
            key, value = (states.repeat_interleave(query.shape[1] // states.shape[1], 1) for states in (key, value))
        lines, length = query.shape[0], query.shape[2]
        places = torch.arange(length)
        scores = query @ key.transpose(2, 3) * scale
        scores = score_mod(scores, None, None, places[:, None], places[None])
        mask = create_mask(block_mask.mask_mod, lines, 1, length, length, "cpu")
        return scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value

    monkeypatch.setattr(integration, "compile_friendly_flex_attention", attend)


def packed_loss(model, rows, *, share, fold):
    bins = pack_step(rows, 96, share_prefixes=share, pair_cost=0.01)[0]
    batches = [collate_bins(group, model.config) for group in ([bins] if fold else [[b] for b in bins])]
    for batch in batches:
        assert "attention_mask" not in batch
        assert batch["reach"].shape == batch["input_ids"].shape
        assert batch["reach"].shape[1] % BLOCK == 0
    return mean_loss(model, batches)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_equal_the_padded_computation(kind, dtype, uncompiled):
    model, limit = believing(kind, NAME, dtype), LIMITS[dtype]
    assert supports_isolated_attention(model.config) == (True, "")
    rows = ragged_rows(1)
    with StayDouble():
        expected, expected_gradients = reference(model, rows)
        for share in (False, True):
            loss = packed_loss(model, rows, share=share, fold=share)
            assert abs(loss - expected) <= limit * abs(expected), share
            assert largest_difference(gradients(model, loss), expected_gradients) <= limit, share


def test_gradient_checkpointing_changes_nothing(uncompiled):
    model, rows = believing("gemma3", NAME, torch.float32), ragged_rows(5)
    expected = gradients(model, packed_loss(model, rows, share=True, fold=True))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert largest_difference(gradients(model, packed_loss(model, rows, share=True, fold=True)), expected) <= 1e-6


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_torchs_own_computation_agrees(kind, monkeypatch):
    """The blocks as well as the function, through torch's flex attention itself: the computation that it falls back to
    without compiling. It has a backward pass on processors, though torch refuses there what it cannot compile."""

    def attend(query, key, value, training=False, **kwargs):
        return torchs_own.flex_attention(query, key, value, **kwargs)

    monkeypatch.setattr(integration, "compile_friendly_flex_attention", attend)
    monkeypatch.setattr(torchs_own, "_validate_device", lambda query, key, value: None)
    monkeypatch.setattr(torchs_own, "_WARNINGS_SHOWN", {"flex_attention_performance"}, raising=False)
    model, rows = believing(kind, NAME, torch.float32), ragged_rows(2)
    loss = packed_loss(model, rows, share=True, fold=True)
    found = gradients(model, loss)
    expected, expected_gradients = reference(model, rows)
    assert abs(loss - expected) <= 1e-5 * abs(expected)
    assert largest_difference(found, expected_gradients) <= 1e-5


def test_the_probe_sees_a_mask_that_is_not_heeded(uncompiled, monkeypatch):
    # transformers makes the mask of rows that are not packed by compiling
    monkeypatch.setattr(
        masking_utils,
        "create_block_mask",
        lambda _compile=False, **arguments: torchs_own.create_block_mask(**arguments),
    )
    model = believing("llama", NAME, torch.float32)
    assert probe_isolated_attention(model) == (True, "")
    monkeypatch.setattr("core.packing.inputs.block_masks", lambda config, reach, positions: None)
    passed, reason = probe_isolated_attention(model)
    assert not passed
    assert "change the logits" in reason


def test_one_mask_for_each_kind_of_layer():
    config = make_model("gemma3", "eager", torch.float32).config
    reach, positions = torch.full((1, BLOCK), BLOCK), torch.arange(BLOCK)[None]
    masks = block_masks(config, reach, positions)
    assert set(masks) == set(mask_windows(config))
    seen = {kind: create_mask(mask.mask_mod, 1, 1, BLOCK, BLOCK, "cpu").sum().item() for kind, mask in masks.items()}
    assert seen["full_attention"] == BLOCK * (BLOCK + 1) // 2
    assert seen["sliding_attention"] == BLOCK * WINDOW - WINDOW * (WINDOW - 1) // 2


def test_a_step_is_laid_out_by_the_blocks_that_are_computed():
    """Rows of one block each: in squares a long bin is dear, in blocks it costs what its rows cost."""
    rows = [{"input_ids": [k + 1] * 129, "labels": [-100] * 128 + [5]} for k in range(8)]
    squares, blocks = (pack_step(rows, 1024, pair_cost=0.1, blocks=on, together=False)[0] for on in (False, True))
    assert [len(b) for b in squares] == [128] * 8
    assert [len(b) for b in blocks] == [1024]


def test_attention_with_dropout_is_refused():
    config = make_model("llama", "eager", torch.float32).config
    config.attention_dropout = 0.1
    supported, reason = supports_isolated_attention(config, NAME)
    assert not supported
    assert "dropout" in reason
    assert supports_isolated_attention(config, "sdpa") == (True, "")


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6), st.integers(1, 9), st.booleans(), st.none() | st.integers(1, 12), st.sampled_from([8, 32])
)
def test_function_and_blocks_say_what_the_mask_says(seed, count, share, window, size):
    bins = [lay_out_rows(ragged_rows(seed + line, count), share_prefixes=share) for line in range(2)]
    length = max(len(b) for b in bins)
    reach, positions = torch.arange(1, length + 1).repeat(2, 1), torch.zeros(2, length, dtype=torch.int64)
    for line, b in enumerate(bins):
        reach[line, : len(b)], positions[line, : len(b)] = torch.from_numpy(b.reach), torch.from_numpy(b.positions)
    expected = attention_mask(reach, positions, window)
    found = block_mask(reach, positions, window, size)
    assert torch.equal(create_mask(found.mask_mod, 2, 1, length, length, "cpu"), expected)
    blocks = -(-length // size)
    whole = torch.zeros(2, 1, blocks * size, blocks * size, dtype=torch.bool)
    whole[:, :, :length, :length] = expected
    tiles = whole.unflatten(3, (blocks, size)).unflatten(2, (blocks, size)).sum((3, 5))
    assert torch.equal(found.to_dense().bool()[:, :, :blocks, :blocks], tiles > 0)
    if window is None:
        computed = sum(computed_pairs(reach[line, : len(b)].numpy(), size) for line, b in enumerate(bins))
        unused = sum(blocks - -(-len(b) // size) for b in bins)  # whole blocks of padding, which see themselves
        assert computed == (int((tiles > 0).sum()) - unused) * size**2
    full = torch.zeros(2, 1, blocks, blocks, dtype=torch.bool)
    for line in range(2):
        for row in range(blocks):
            columns = found.full_kv_indices[line, 0, row, : found.full_kv_num_blocks[line, 0, row]]
            full[line, 0, row, columns.long()] = True
    assert torch.equal(full, tiles == size * size)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the compiled kernel and its backward pass need a GPU")
@pytest.mark.parametrize("share", [False, True])
def test_the_compiled_kernel_on_a_gpu(share):
    import transformers as hf

    config = hf.LlamaConfig(
        vocab_size=61, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation=NAME).cuda().train()
    rows = ragged_rows(3)
    batch = move_batch(collate_bins([lay_out_rows(rows, share_prefixes=share)], config), "cuda")
    loss = torch.nn.functional.cross_entropy(target_logits(model, batch).float(), batch["target_ids"])
    found = gradients(model, loss)
    model.cpu().set_attn_implementation("sdpa")
    expected = gradients(model, plain_loss(model, rows))
    # the kernel multiplies in TensorFloat-32
    assert largest_difference({name: value.cpu() for name, value in found.items()}, expected) <= 2e-2
