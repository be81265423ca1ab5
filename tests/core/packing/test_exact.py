"""Packed, shared and chunked computations give the loss and every gradient of the plain padded one."""

from __future__ import annotations

import pytest
import torch

from core.packing import (
    collate_bins,
    lay_out_rows,
    pack_dataset,
    pack_step,
    supports_isolated_attention,
    target_logits,
)
from tests.core.packing.double import StayDouble
from tests.core.packing.packing_cases import (
    gradients,
    largest_difference,
    make_model,
    mean_loss,
    plain_loss,
    ragged_rows,
)


@pytest.fixture(autouse=True)
def stay_double():
    with StayDouble():
        yield


LIMITS = {torch.float32: 1e-5, torch.float64: 1e-9}
KINDS = ["llama", "qwen2", "qwen2-windowed", "mistral", "gemma2", "gemma3", "gpt_neox", "granite", "cohere", "gpt2"]
CASES = [
    (kind, attention, dtype)
    for kind in KINDS
    for attention in ("sdpa", "eager")
    for dtype in LIMITS
    if (kind, attention) != ("gemma2", "sdpa")  # transformers has no sdpa for soft-capped scores
]


def packed_loss(model, rows, *, share=True, chunked=False, sequence_len=96, fold=True):
    """The mean loss over bins laid out for one step; `fold`: all bins in one batch, else one batch a bin."""
    bins = pack_step(rows, sequence_len, share_prefixes=share, pair_cost=0.01)[0]
    groups = [bins] if fold else [[b] for b in bins]
    batches = [collate_bins(group, model.config, dtype=model.dtype, pad_to_multiple_of=8) for group in groups]
    return mean_loss(model, batches, chunk=5 if chunked else None)


@pytest.mark.parametrize(("kind", "attention", "dtype"), CASES)
def test_loss_and_gradients_equal_the_padded_computation(kind, attention, dtype):
    model, limit = make_model(kind, attention, dtype), LIMITS[dtype]
    assert supports_isolated_attention(model.config) == (True, "")
    for seed in range(2):
        rows = ragged_rows(seed)
        expected = plain_loss(model, rows)
        expected_gradients = gradients(model, expected)
        for share in (False, True):
            for chunked in (False, True):
                loss = packed_loss(model, rows, share=share, chunked=chunked, fold=seed == 0)
                assert abs(loss - expected) <= limit * abs(expected), (share, chunked)
                assert largest_difference(gradients(model, loss), expected_gradients) <= limit, (share, chunked)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "mistral"])
def test_gradient_checkpointing_changes_nothing(kind):
    model, rows = make_model(kind, "sdpa", torch.float32), ragged_rows(5)
    expected = gradients(model, plain_loss(model, rows))
    model.train().gradient_checkpointing_enable({"use_reentrant": False})
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    for chunked in (False, True):
        assert largest_difference(gradients(model, packed_loss(model, rows, chunked=chunked)), expected) <= 1e-5


def test_bins_of_a_data_set_add_up_to_the_padded_gradient():
    model, rows = make_model("gemma3", "sdpa", torch.float64), ragged_rows(11, count=20)
    packing = pack_dataset(rows, 80)
    assert len(packing.bins) > 2
    assert packing.computed_share < 0.9
    batches = [collate_bins([lay_out_rows([rows[i] for i in members])], model.config) for members in packing.bins]
    loss = mean_loss(model, batches)
    expected = plain_loss(model, rows)
    assert abs(loss - expected) <= 1e-9 * expected
    assert largest_difference(gradients(model, loss), gradients(model, expected)) <= 1e-9


def test_windows_matter_in_these_rows():
    """Without one mask per layer kind the loss would be another: the windowed tests above can fail."""
    model, rows = make_model("gemma3", "sdpa", torch.float64), ragged_rows(0)
    batch = collate_bins([lay_out_rows(rows)], model.config)
    assert set(batch["attention_mask"]) == {"full_attention", "sliding_attention"}
    right = target_logits(model, batch)
    batch["attention_mask"] = batch["attention_mask"]["full_attention"]
    assert (right - target_logits(model, batch)).norm() > 1e-2 * right.norm()


def test_lora_through_peft_trains_alike():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(
        make_model("llama", "sdpa", torch.float64),
        LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
    ).double()
    rows = ragged_rows(2)
    expected = plain_loss(model, rows)
    expected_gradients = gradients(model, expected)
    assert expected_gradients
    for chunked in (False, True):
        loss = packed_loss(model, rows, chunked=chunked)
        assert abs(loss - expected) <= 1e-9 * expected
        assert largest_difference(gradients(model, loss), expected_gradients) <= 1e-9


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3", "gpt_neox"])
def test_twenty_steps_in_float32_end_at_the_same_weights(kind):
    """Packed, shared and with the head in chunks; rows longer than the windows of gemma3."""
    ends = []
    for packed in (False, True):
        model = make_model(kind, "sdpa", torch.float32)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        for step in range(20):
            rows = ragged_rows(step, count=4)
            (packed_loss(model, rows, chunked=True) if packed else plain_loss(model, rows)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    begun = torch.cat([p.detach().flatten() for p in make_model(kind, "sdpa", torch.float32).parameters()])
    assert (ends[0] - begun).norm() > 1e-2 * begun.norm()
    assert (ends[0] - ends[1]).norm() <= 1e-4 * ends[0].norm()


@pytest.mark.parametrize("micro_batches", [1, 32])
def test_gradients_accumulated_in_bfloat16_are_no_further_from_float32_than_plain_ones(micro_batches):
    """Divided once, by the targets of the whole step, before they are summed."""
    truth, low = (make_model("llama", "sdpa", dtype) for dtype in (torch.float32, torch.bfloat16))
    for parameter, rounded in zip(truth.parameters(), low.parameters(), strict=True):
        parameter.data.copy_(rounded.data)
    steps = [ragged_rows(seed) for seed in range(micro_batches)]
    counts = [sum(label != -100 for row in rows for label in row["labels"][1:]) for rows in steps]

    def accumulated(model, compute):
        model.zero_grad()
        for rows, count in zip(steps, counts, strict=True):
            (compute(model, rows) * (count / sum(counts))).backward()
        return torch.cat([p.grad.float().flatten() for p in model.parameters()])

    exact = accumulated(truth, plain_loss)
    plain, packed = (float((accumulated(low, way) - exact).norm()) for way in (plain_loss, packed_loss))
    assert packed <= 1.05 * plain


def test_bfloat16_is_no_further_from_float32_than_the_padded_computation():
    truth = make_model("llama", "sdpa", torch.float32)
    low = make_model("llama", "sdpa", torch.bfloat16)
    for parameter, rounded in zip(truth.parameters(), low.parameters(), strict=True):
        parameter.data.copy_(rounded.data)
    plain, packed = [], []
    for seed in range(4):
        rows = ragged_rows(seed)
        reference = gradients(truth, plain_loss(truth, rows))
        for distances, compute in ((plain, plain_loss), (packed, packed_loss)):
            found = gradients(low, compute(low, rows))
            distances.append(sum(float((found[k].float() - reference[k]).norm()) for k in reference))
    assert sum(packed) <= 1.1 * sum(plain)
