"""Attention by segments gives what the masked square gives, for every kind of model that packs."""

from __future__ import annotations

import pytest
import torch

from core.packing import collate_bins, lay_out_rows, pack_step, register_segments, target_logits
from core.packing.segments import NAME
from tests.core.packing.double import StayDouble
from tests.core.packing.packing_cases import gradients, largest_difference, make_model, plain_loss, ragged_rows

KINDS = ["llama", "qwen2", "qwen2-windowed", "mistral", "gemma3", "gpt_neox", "granite", "cohere"]
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-9}


def packed_loss(model, rows, share):
    bins = pack_step(rows, 96, share_prefixes=share, pair_cost=0.01)[0]
    batch = collate_bins(bins, model.config, pad_to_multiple_of=8)
    masks = batch["attention_mask"]
    for mask in masks.values() if isinstance(masks, dict) else [masks]:
        assert mask.segments.blocks
    logits = target_logits(model, batch)
    return torch.nn.functional.cross_entropy(logits, batch["target_ids"])


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_equal_the_padded_computation(kind, dtype):
    model = make_model(kind, "sdpa", dtype)
    with StayDouble():
        for seed in range(2):
            rows = ragged_rows(seed)
            model.set_attn_implementation("sdpa")
            expected = plain_loss(model, rows)
            expected_gradients = gradients(model, expected)
            model.set_attn_implementation(register_segments())
            for share in (False, True):
                loss = packed_loss(model, rows, share)
                assert abs(loss - expected) <= LIMITS[dtype] * abs(expected), share
                assert largest_difference(gradients(model, loss), expected_gradients) <= LIMITS[dtype], share


def test_a_mask_that_lost_its_segments_still_says_the_same():
    model, bins = make_model("gemma3", "sdpa", torch.float64), [lay_out_rows(ragged_rows(2))]
    model.set_attn_implementation(register_segments())
    batch = collate_bins(bins, model.config)
    expected = target_logits(model, batch)
    batch["attention_mask"] = {kind: mask.clone() for kind, mask in batch["attention_mask"].items()}
    assert not any(hasattr(mask, "segments") for mask in batch["attention_mask"].values())
    assert (target_logits(model, batch) - expected).norm() <= 1e-9 * expected.norm()


def test_the_model_still_generates_and_saves_under_its_usual_name(tmp_path):
    model = make_model("llama", "sdpa", torch.float32).eval()
    ids = torch.tensor([[3, 5, 7, 9], [4, 6, 8, 10]])
    expected = model.generate(ids, max_new_tokens=5, do_sample=False)
    model.set_attn_implementation(register_segments())
    assert torch.equal(model.generate(ids, max_new_tokens=5, do_sample=False), expected)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text(encoding="utf-8")


def test_work_grows_with_the_rows_and_not_with_the_bin():
    model = make_model("llama", "sdpa", torch.float32)
    model.set_attn_implementation(register_segments())
    rows = [{"input_ids": [k % 50 + 1] * 21, "labels": [-100] + [3] * 20} for k in range(50)]
    mask = collate_bins([lay_out_rows(rows, share_prefixes=False)], model.config)["attention_mask"]
    assert mask.shape[-1] == 1000
    assert sum(block.count * block.length**2 for block in mask.segments.blocks) == 50 * 20**2
