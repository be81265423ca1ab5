"""Base models packed into 4 or 8 bits by bitsandbytes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from core.errors import Problem, RecipeError, UserError
from core.models.loading import quiet
from core.models.placement import sharded
from core.types import Plan

if TYPE_CHECKING:
    import torch

Quantized = Literal["4bit", "8bit"] | None
# how a load is described to the user
HELD: dict[Quantized, str] = {
    None: "",
    "4bit": ", linear layers in 4 bits",
    "8bit": ", linear layers in 8 bits",
}


def quantization_config(plan: Plan, quantized: Quantized, dtype: torch.dtype) -> Any:
    """The BitsAndBytesConfig for `quantized`: NF4 with double quantisation, computing in `dtype`, unless
    `bnb_config_kwargs` says otherwise. Raises `UserError` without bitsandbytes, `RecipeError` for bad kwargs."""
    try:
        with quiet():
            import bitsandbytes  # noqa: F401
    except ImportError as error:
        key = "load_in_4bit" if quantized == "4bit" else "load_in_8bit"
        raise UserError(
            f"{key} needs the package bitsandbytes, which is not installed", help="pip install 'tunesmith[qlora]'"
        ) from error
    from transformers import BitsAndBytesConfig

    chosen: dict[str, Any] = {"load_in_8bit": True}
    if quantized == "4bit":
        chosen = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": dtype,
        }
        if _shared_out(plan):
            chosen["bnb_4bit_quant_storage"] = dtype
            _refuse_other_storage(plan, dtype)
    make: Any = BitsAndBytesConfig
    try:
        return make(**(chosen | dict(plan.recipe["bnb_config_kwargs"] or {})))
    except (TypeError, ValueError) as error:
        problem = Problem(f"bnb_config_kwargs cannot be used: {error}", key=("bnb_config_kwargs",), at="value")
        raise RecipeError([problem]) from error


def _shared_out(plan: Plan) -> bool:
    """Whether ranks will share the weights out, as the launcher or the recipe says."""
    recipe = plan.recipe
    fsdp = recipe["fsdp"] is not False and bool(recipe["fsdp"] or recipe["fsdp_config"])
    return sharded() or fsdp or bool(recipe["deepspeed"])


def _refuse_other_storage(plan: Plan, dtype: torch.dtype) -> None:
    """Only tensors of one floating dtype can be shared out together: packed weights are held as what is not packed."""
    name = "bnb_4bit_quant_storage"
    given = (plan.recipe["bnb_config_kwargs"] or {}).get(name)
    needed = str(dtype).removeprefix("torch.")
    if given is not None and str(given).removeprefix("torch.") != needed:
        message = f"{name} {given!r} cannot be shared out over ranks beside weights in {needed}"
        help = f"leave {name} out, or set it to {needed}"
        raise RecipeError([Problem(message, key=("bnb_config_kwargs", name), at="value", help=help)])


def settle(model: torch.nn.Module) -> None:
    """Make a freshly loaded packed model compute the same in training and evaluation, and quietly.

    On CPUs with AVX512-BF16, bitsandbytes repacks a 4-bit layer at its first evaluation: in place, with its scales
    rounded to bfloat16, and wrongly for inputs that are no multiple of 64. Training would go on with other weights.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.__dict__["support_avx512bf16_for_cpu"] = False
    # an 8-bit layer reports its cast to float16 at every call
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
