"""Attention by segments gives what the masked square gives, for every kind of model that packs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.kernels import fuse_norms
from core.packing import (
    arranged,
    attention_mask,
    collate_bins,
    lay_out_rows,
    logit_transform,
    pack_step,
    register_segments,
    target_hidden,
    target_logits,
    trained_token_loss,
)
from core.packing.segment_attention import segment_attention
from core.packing.segments import NAME, segments_of
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
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return torch.nn.functional.cross_entropy(wide, batch["target_ids"])


@pytest.fixture(params=["products", "flash kernel"])
def way(request, monkeypatch):
    """Blocks with few keys are attended to by plain products, those with many by the flash kernel."""
    for name in ("SHORT", "SHORT_BEHIND"):
        monkeypatch.setattr(arranged, name, 10**6 if request.param == "products" else 0)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_both_ways_of_a_block_equal_the_padded_computation(kind, way):
    model = make_model(kind, "sdpa", torch.float64)
    rows = ragged_rows(5)
    with StayDouble():
        expected = plain_loss(model, rows)
        expected_gradients = gradients(model, expected)
        model.set_attn_implementation(register_segments())
        loss = packed_loss(model, rows, share=True)
        assert abs(loss - expected) <= 1e-9 * abs(expected)
        assert largest_difference(gradients(model, loss), expected_gradients) <= 1e-9


def test_values_may_be_narrower_than_keys(way):
    """As in DeepSeek's models, whose keys have the rotary part besides."""
    model = make_model("llama", "sdpa", torch.float64)
    model.set_attn_implementation(register_segments())
    batch = collate_bins([lay_out_rows(ragged_rows(4))], model.config)
    length, draw = batch["input_ids"].shape[1], torch.Generator().manual_seed(0)
    shapes = [(1, 4, length, 6), (1, 2, length, 6), (1, 2, length, 3)]
    states = [torch.randn(shape, dtype=torch.float64, generator=draw, requires_grad=True) for shape in shapes]
    mask = batch["attention_mask"]
    found = segment_attention(model, *states, mask)[0].transpose(1, 2)
    expected = torch.nn.functional.scaled_dot_product_attention(*states, attn_mask=mask, enable_gqa=True)
    assert found.shape == expected.shape == (1, 4, length, 3)
    assert (found - expected).norm() <= 1e-12 * expected.norm()
    above = torch.randn(found.shape, dtype=torch.float64, generator=draw)
    pairs = zip(torch.autograd.grad(found, states, above), torch.autograd.grad(expected, states, above), strict=True)
    assert all((ours - theirs).norm() <= 1e-12 * theirs.norm() for ours, theirs in pairs)


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
def test_under_autocast_it_is_no_further_from_float32_than_the_plain_computation(held, way):
    distances = {False: 0.0, True: 0.0}
    for seed in range(3):
        rows = ragged_rows(seed)
        model = make_model("llama", "sdpa", torch.float32)
        exact = gradients(model, plain_loss(model, rows))
        for packed in distances:
            model = make_model("llama", "sdpa", held)
            if packed:
                model.set_attn_implementation(register_segments())
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = packed_loss(model, rows, share=True) if packed else plain_loss(model, rows)
            found = gradients(model, loss)
            distances[packed] += sum(float((found[k].float() - exact[k]).norm()) ** 2 for k in exact) ** 0.5
    assert 0 < distances[True] <= 1.05 * distances[False]


def test_attention_with_dropout_is_left_to_the_library():
    model = make_model("llama", "sdpa", torch.float32)
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.set_attn_implementation(register_segments())
    losses = []
    for seed in (1, 2, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            losses.append(float(packed_loss(model, ragged_rows(0), share=True)))
    assert losses[0] == losses[2] != losses[1]


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


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6), st.integers(1, 9), st.booleans(), st.none() | st.integers(1, 12))
def test_blocks_hold_exactly_the_pairs_of_the_mask(seed, count, share, window):
    b = lay_out_rows(ragged_rows(seed, count), share_prefixes=share)
    reach, positions = b.reach[None], b.positions[None]
    mask = attention_mask(torch.from_numpy(reach), torch.from_numpy(positions), window)[0, 0]
    found = torch.zeros_like(mask)
    segments = segments_of(reach, positions, [len(b)], window)
    padding = set(segments.padding.tolist())
    for block in segments.blocks:
        above = len(block.above)
        seen = block.mask
        if seen is None:
            assert not above
            seen = torch.ones(1, 1, block.length, block.length, dtype=torch.bool).tril()
        for row in range(block.count):
            slots = range(block.start + row * block.length, block.start + (row + 1) * block.length)
            places = [None if slot in padding else int(segments.places[slot]) for slot in slots]
            keys = [*block.above.tolist(), *places]
            for q, place in enumerate(places):
                if place is None:
                    continue
                mine = torch.nonzero(seen[0, 0, q]).flatten().tolist()
                assert all(keys[k] is not None for k in mine)
                assert not found[place].any()  # every place is computed once
                found[place, [keys[k] for k in mine]] = True
    assert torch.equal(found, mask)
    assert torch.equal(segments.places[segments.slots], torch.arange(len(b)))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3", "gpt_neox"])
@pytest.mark.parametrize("all_together", [False, True])
def test_twenty_steps_end_at_the_same_weights(kind, all_together):
    """Packed and shared; and all together: checkpointing, a head in chunks, fused norms, accumulated micro batches."""
    ends = []
    for packed in (False, True):
        model = make_model(kind, "sdpa", torch.float64)
        if all_together:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_("norm" not in name)
        if packed:
            model.set_attn_implementation(register_segments())
            if all_together:
                fuse_norms(model)
                model.gradient_checkpointing_enable({"use_reentrant": False})
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-3)
        for step in range(20):
            rows = ragged_rows(step)
            if packed and all_together:
                accumulate(model, [rows[:6], rows[6:]])
            else:
                loss = packed_loss(model, rows, share=True) if packed else plain_loss(model, rows)
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append({name: p.detach().clone() for name, p in model.named_parameters()})
    distance = sum(float((ends[0][k] - ends[1][k]).norm()) ** 2 for k in ends[0]) ** 0.5
    size = sum(float(p.norm()) ** 2 for p in ends[0].values()) ** 0.5
    assert distance <= 1e-4 * size


def accumulate(model, micro_batches):
    """The gradient of the mean over the targets of all micro batches."""
    bins = [pack_step(rows, 96, pair_cost=0.01)[0] for rows in micro_batches]
    batches = [collate_bins(some, model.config, pad_to_multiple_of=8) for some in bins]
    count = sum(len(batch["target_ids"]) for batch in batches)
    scale, softcap = logit_transform(model.config)
    for batch in batches:
        hidden = target_hidden(model, batch)
        head = model.get_output_embeddings()
        loss = trained_token_loss(hidden, head, batch["target_ids"], scale=scale, softcap=softcap, chunk=5)
        (loss / count).backward()


def test_in_bfloat16_it_is_no_further_from_float32_than_the_plain_computation():
    distances = {False: 0.0, True: 0.0}
    for seed in range(4):
        rows = ragged_rows(seed)
        model = make_model("llama", "sdpa", torch.float32)
        exact = gradients(model, plain_loss(model, rows))
        for packed in distances:
            model = make_model("llama", "sdpa", torch.bfloat16)
            if packed:
                model.set_attn_implementation(register_segments())
            loss = packed_loss(model, rows, share=True) if packed else plain_loss(model, rows)
            found = gradients(model, loss)
            distances[packed] += sum(float((found[k].float() - exact[k]).norm()) ** 2 for k in exact) ** 0.5
    assert 0 < distances[True] <= 1.05 * distances[False]
