"""Kernels for a GPU that a recipe may ask for: Liger's, and torch's compiler. None changes what is learnt. Light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from core.console import say

if TYPE_CHECKING:
    from core import Plan

# recipe key -> kernels, by their names in Liger: a model has one of the gated activations
LIGER_KERNELS: Mapping[str, tuple[str, ...]] = {
    "liger_rope": ("rope",),
    "liger_rms_norm": ("rms_norm",),
    "liger_layer_norm": ("layer_norm",),
    "liger_glu_activation": ("swiglu", "geglu"),
    "liger_swiglu": ("swiglu", "geglu"),
}
# those of Liger's losses would take the place of ours, which has logits for trained tokens alone
LOSSES = ("cross_entropy", "fused_linear_cross_entropy")


def gpu_kernels(plan: Plan) -> dict[str, Any]:
    """The training arguments of the kernels that the recipe asks for and this machine has; what it lacks is said."""
    import torch

    recipe = plan.recipe
    values: dict[str, Any] = {}
    on_gpu = torch.cuda.is_available()
    asked = [key for key in LIGER_KERNELS if recipe[key]]
    if asked and on_gpu and find_spec("liger_kernel"):
        _warn_of_unknown_model(plan, asked)
        on = {name for key in asked for name in LIGER_KERNELS[key]}
        # each by its name, for Liger switches on what is not named
        chosen = {name: name in on for names in LIGER_KERNELS.values() for name in names} | dict.fromkeys(LOSSES, False)
        values = {"use_liger_kernel": True, "liger_kernel_config": chosen}
    elif asked:
        lacking = "the package liger-kernel" if on_gpu else "an NVIDIA GPU"
        say(f"warning: without {lacking}, nothing comes of {', '.join(asked)} here")
    if recipe["torch_compile"] and on_gpu:
        values["torch_compile"] = True
        for key in ("torch_compile_backend", "torch_compile_mode"):
            if recipe[key]:
                values[key] = recipe[key]
    elif recipe["torch_compile"]:
        say("warning: torch_compile has no effect here: it needs an NVIDIA GPU")
    return values


def _warn_of_unknown_model(plan: Plan, asked: Sequence[str]) -> None:
    """Liger passes over models that it does not know without a word."""
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    from core.models.config import load_config

    kind = load_config(plan).model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        say(f"warning: liger-kernel has no kernels for model type {kind!r}: nothing comes of {', '.join(asked)}")
