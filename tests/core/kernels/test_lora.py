"""The fused LoRA layer against peft's own."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from core.kernels import fuse_lora
from tests.core.packing.packing_cases import gradients, largest_difference, make_model


def adapted(dtype, kind="llama", **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        settings = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "init_lora_weights": False, **options}
        base = make_model(kind, "sdpa", dtype)
        base.requires_grad_(False)
        return get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings), autocast_adapter_dtype=False)


def loss_of(model, ids):
    return model(input_ids=ids, labels=ids).loss


@pytest.mark.parametrize("kind", ["llama", "qwen2"])  # without and with biases
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_loss_and_gradients_are_those_of_peft(kind, dtype, limit):
    ids = torch.randint(1, 60, (3, 11), generator=torch.Generator().manual_seed(0))
    plain, fused = adapted(dtype, kind), adapted(dtype, kind)
    assert fuse_lora(fused) == 14
    expected, loss = loss_of(plain, ids), loss_of(fused, ids)
    assert abs(loss - expected) <= limit * expected
    assert largest_difference(gradients(fused, loss), gradients(plain, expected)) <= limit


def test_in_bfloat16_it_is_no_further_from_float32_than_peft():
    distances = {False: 0.0, True: 0.0}
    for seed in range(6):
        ids = torch.randint(1, 60, (8, 16), generator=torch.Generator().manual_seed(seed))
        model = adapted(torch.float32)
        exact = gradients(model, loss_of(model, ids))
        for fuse in distances:
            model = adapted(torch.float32)
            if fuse:
                fuse_lora(model)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(model, ids)
            found = gradients(model, loss)
            distances[fuse] += sum(float((found[k] - exact[k]).norm()) ** 2 for k in exact) ** 0.5
    assert 0 < distances[True] <= 1.2 * distances[False]  # rounding falls one way or the other


def test_layers_of_another_kind_are_left_to_peft():
    assert fuse_lora(adapted(torch.float32, lora_dropout=0.1)) == 0
    assert fuse_lora(adapted(torch.float32, use_dora=True)) == 0


def test_scoring_and_the_view_of_the_base_are_untouched():
    ids = torch.arange(1, 12)[None]
    plain, fused = adapted(torch.float32).eval(), adapted(torch.float32).eval()
    fuse_lora(fused)
    with torch.no_grad():
        assert torch.equal(fused(ids).logits, plain(ids).logits)
        with plain.disable_adapter(), fused.disable_adapter():
            assert torch.equal(fused(ids).logits, plain(ids).logits)
