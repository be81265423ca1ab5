"""A base model's shapes without its weights: on the meta device, for the planner."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from core.errors import UserError
from core.models.config import load_config
from core.models.loading import explained, quiet
from core.models.parameters import SHAPE_OF
from core.models.precision import weight_dtype
from core.models.quantization import Quantized
from core.models.tokenizer import read_tokenizer
from core.types import Plan

BLOCK, SCALES_BLOCK = 64, 256  # weights that share a scale, and scales that share one, in bitsandbytes' 4 bits


class PackedLinear(torch.nn.Linear):
    """The shapes of a linear layer in 4 or 8 bits: its weight is unpacked for each product, and for each gradient."""

    def __init__(self, layer: torch.nn.Linear, bits: int, *, double: bool) -> None:
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.bias = layer.bias
        self.packed_bits = bits
        self.compute_dtype = layer.weight.dtype
        packed = packed_bytes(layer.weight.numel(), layer.out_features, bits, double=double)
        weight: Any = torch.nn.Parameter(torch.empty(packed, dtype=torch.uint8, device="meta"), requires_grad=False)
        # what counts parameters asks for the shape that the packed values stand for
        weight.quant_state = SimpleNamespace(shape=tuple(layer.weight.shape), bits=bits)
        self.weight = weight

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[..., in] to [..., out]; keeps nothing but the packed weight for the backward pass."""
        product: torch.Tensor = _PackedProduct.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.out_features, self.compute_dtype
        )
        return product


class _PackedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, packed: torch.Tensor, out: int, dtype: torch.dtype) -> torch.Tensor:
        ctx.shape, ctx.dtype = input.shape, input.dtype
        weight = torch.empty(out, input.shape[-1], dtype=dtype, device="meta")
        del weight
        return input.new_empty(*input.shape[:-1], out)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> Any:
        weight = torch.empty(grad_outputs[0].shape[-1], ctx.shape[-1], dtype=ctx.dtype, device="meta")
        grad = torch.empty(ctx.shape, dtype=ctx.dtype, device="meta")
        del weight
        return grad, None, None, None


def base_shape(plan: Plan, *, quantized: Quantized, frozen: bool) -> Any:
    """What `load_base` gives, on the meta device: same modules, dtypes and embeddings. Reads config and tokenizer only;
    a model without a tokenizer keeps the embeddings it has. Raises `UserError` where there is no config to read."""
    from transformers import AutoModelForCausalLM

    config = load_config(plan)
    with torch.device("cpu"):  # it may try how fast this processor is, which shapes alone cannot tell
        dtype, _ = weight_dtype(plan, frozen=frozen or quantized is not None)
    # eager attention is planned for as a fused kernel: transformers is asked for the one that calls it
    asked = plan.recipe["attn_implementation"]
    make: Any = AutoModelForCausalLM
    with torch.device("meta"), explained("base_model", plan.base_model), quiet():
        model = make.from_config(
            config,
            trust_remote_code=plan.trust_remote_code,
            dtype=dtype,
            attn_implementation="eager" if asked == "eager" else None,  # sdpa, where the model has it
        )
    model.tie_weights()
    _resize(plan, model)
    if quantized:
        _pack(plan, model, 4 if quantized == "4bit" else 8)
    model.config.use_cache = False
    setattr(model, SHAPE_OF, plan.shape_for)
    return model


def packed_bytes(weights: int, rows: int, bits: int, *, double: bool) -> int:
    """Bytes of a weight that bitsandbytes packs into 4 bits (with its scales, twice quantised if `double`) or 8."""
    if bits == 8:
        return weights + 4 * rows
    scales = -(-weights // BLOCK)
    return weights // 2 + (scales + 4 * -(-scales // SCALES_BLOCK) + 4 * 256 if double else 4 * scales) + 4 * 16


def token_count(plan: Plan) -> int:
    """How many tokens the tokenizer of `plan` has; 0 where there is none to read."""
    try:
        return len(read_tokenizer(plan)[0])
    except UserError:
        return 0


def _resize(plan: Plan, model: Any) -> None:
    rows = model.get_input_embeddings().num_embeddings
    wanted = max(rows, token_count(plan) if plan.shape_tokens is None else plan.shape_tokens)
    if plan.recipe["resize_token_embeddings_to_32x"]:
        wanted = -(-wanted // 32) * 32
    if wanted != rows:
        with quiet(), torch.device("meta"):
            model.resize_token_embeddings(wanted, mean_resizing=False)


def _pack(plan: Plan, model: Any, bits: int) -> None:
    """Replace all linear layers but the output head by packed ones, as bitsandbytes does."""
    head = model.get_output_embeddings()
    double = bool((plan.recipe["bnb_config_kwargs"] or {}).get("bnb_4bit_use_double_quant", True))
    for name, module in list(model.named_modules()):
        if type(module) is torch.nn.Linear and module is not head:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, PackedLinear(module, bits, double=double))
