"""The fused LoRA layer against peft's own."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from core.kernels import fuse_lora
from core.models.quantization import settle
from tests.core.packing.packing_cases import gradients, largest_difference, make_model


def adapted(dtype, kind="llama", packed=False, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        settings = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "init_lora_weights": False, **options}
        base = make_model(kind, "sdpa", dtype)
        if packed:
            pack(base, dtype)
        base.requires_grad_(False)
        return get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings), autocast_adapter_dtype=False)


def pack(model, dtype):
    """Hold the linear layers in 4 bits, as a model loaded so does."""
    bnb = pytest.importorskip("bitsandbytes", reason="holds weights in 4 bits")
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is torch.nn.Linear and name != "lm_head":
                bias = layer.bias is not None
                made = bnb.nn.Linear4bit(layer.in_features, layer.out_features, bias, dtype, quant_type="nf4")
                made.weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4").to("cpu")
                made.bias = layer.bias
                setattr(parent, name, made)
    model.is_loaded_in_4bit = True
    settle(model)


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


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_on_a_base_in_4_bits_too(kind):
    ids = torch.randint(1, 60, (3, 11), generator=torch.Generator().manual_seed(0))
    plain, fused = (adapted(torch.float32, kind, packed=True) for _ in range(2))
    assert fuse_lora(fused) == 14
    held = [id(parameter) for parameter in fused.parameters()]
    expected, loss = loss_of(plain, ids), loss_of(fused, ids)
    assert abs(loss - expected) <= 1e-5 * expected
    assert largest_difference(gradients(fused, loss), gradients(plain, expected)) <= 1e-5
    with torch.no_grad():
        assert torch.equal(fused.eval()(ids).logits, plain.eval()(ids).logits)
    assert held == [id(parameter) for parameter in fused.parameters()]


@pytest.mark.parametrize("autocast", [False, True])
def test_a_format_that_the_recipe_has_4_bits_compute_in_is_left_to_peft(autocast):
    held = torch.float32 if autocast else torch.bfloat16
    x, found = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)).to(held), []
    for fuse in (False, True):
        model = adapted(held, packed=True)
        layer = model.base_model.model.model.layers[0].mlp.gate_proj
        layer.base_layer.compute_dtype = torch.float32
        if fuse:
            assert fuse_lora(model) == 14
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            found.append(layer(x))
    assert found[0].dtype == found[1].dtype == held
    assert torch.equal(*found)


def test_in_4_bits_nothing_unpacked_is_kept_for_the_backward_pass():
    model = adapted(torch.float32, packed=True)
    fuse_lora(model)
    layer = model.base_model.model.model.layers[0].mlp.gate_proj
    shape = tuple(layer.base_layer.weight.quant_state.shape)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tuple(tensor.shape)) or tensor, lambda t: t
    ):
        layer(torch.ones(5, shape[1], requires_grad=True))
    assert kept
    assert shape not in kept


def test_in_bfloat16_no_gradient_is_further_from_float32_than_with_peft():
    """Of one layer, where nothing else rounds: through a whole model, the rounding of all else hides the layer's."""
    distances = {fuse: dict.fromkeys(("output", "x", "down", "up"), 0.0) for fuse in (False, True)}
    for seed in range(4):
        draw = torch.Generator().manual_seed(seed)
        x, above = torch.randn(128, 16, generator=draw), torch.randn(128, 24, generator=draw)
        exact = of_layer(x, above, fuse=False, narrow=False)
        for fuse, sums in distances.items():
            for name, value in of_layer(x, above, fuse=fuse, narrow=True).items():
                sums[name] += float((value - exact[name]).norm() / exact[name].norm())
    for name, with_peft in distances[False].items():
        assert 0 < distances[True][name] <= with_peft, name


def of_layer(x, above, *, fuse, narrow):
    """Output and gradients of one adapted layer, with `above` the gradient of its output."""
    model = adapted(torch.float32)
    if fuse:
        assert fuse_lora(model) == 14
    layer = model.base_model.model.model.layers[0].mlp.gate_proj
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
        output = layer(x)
    weights = (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
    found = torch.autograd.grad(output, (x, *weights), above.to(output.dtype))
    return {name: value.float() for name, value in zip(("output", "x", "down", "up"), (output, *found), strict=True)}


def test_layers_of_another_kind_are_left_to_peft():
    assert fuse_lora(adapted(torch.float32, lora_dropout=0.1)) == 0
    assert fuse_lora(adapted(torch.float32, use_dora=True)) == 0
    bare = {"target_modules": [], "target_parameters": ["mlp.up_proj.weight"]}
    assert fuse_lora(adapted(torch.float32, **bare)) == 0


def test_scoring_and_the_view_of_the_base_are_untouched():
    ids = torch.arange(1, 12)[None]
    plain, fused = adapted(torch.float32).eval(), adapted(torch.float32).eval()
    fuse_lora(fused)
    with torch.no_grad():
        assert torch.equal(fused(ids).logits, plain(ids).logits)
        with plain.disable_adapter(), fused.disable_adapter():
            assert torch.equal(fused(ids).logits, plain(ids).logits)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("packed", [False, True])
def test_loss_and_gradients_on_a_gpu_are_those_of_peft(packed):
    ids = torch.randint(1, 60, (3, 11), generator=torch.Generator().manual_seed(0)).cuda()
    plain, fused = (adapted(torch.float32, packed=packed).cuda() for _ in range(2))
    assert fuse_lora(fused) == 14
    expected, loss = loss_of(plain, ids), loss_of(fused, ids)
    assert abs(loss - expected) <= 1e-4 * expected
    assert largest_difference(gradients(fused, loss), gradients(plain, expected)) <= 1e-4
    with torch.autocast("cuda", dtype=torch.bfloat16):
        narrow = loss_of(fused, ids)
    narrow.backward()
    assert abs(narrow - expected) <= 2e-2 * expected
