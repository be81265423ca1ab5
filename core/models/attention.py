"""Which attention implementation a model is loaded with."""

from __future__ import annotations

from core.errors import Problem, RecipeError
from core.models.placement import on_cuda
from core.types import Plan

PACKAGES = {"flash_attention_2": "flash-attn", "flash_attention_3": "flash-attn-3", "flash_attention_4": "flash-attn-4"}
NOWHERE = ("xformers", "sage")  # axolotl's names, of its own patches


def attention(plan: Plan) -> str | None:
    """The attention to ask transformers for; None lets it choose (sdpa where the model has it).

    One that cannot run here gives way to that choice, with a warning. Raises `RecipeError` for a name nobody knows.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.utils.import_utils import (
        is_flash_attn_2_available,
        is_flash_attn_3_available,
        is_flash_attn_4_available,
        is_kernels_available,
    )

    from core.console import say

    asked: str | None = plan.recipe["attn_implementation"]
    if asked is None:
        return None
    gpu, kernels = on_cuda(), is_kernels_available()
    installed = {
        "flash_attention_2": is_flash_attn_2_available() or kernels,
        "flash_attention_3": is_flash_attn_3_available() or kernels,
        "flash_attention_4": is_flash_attn_4_available() or kernels,
    }
    reason = ""
    if asked in NOWHERE:
        reason = "transformers has none of that name"
    elif not gpu and (asked in ("flex_attention", *PACKAGES) or "/" in asked):
        reason = "it needs a GPU, and there is none"
    elif not installed.get(asked, kernels if "/" in asked else True):
        missing = f"neither {PACKAGES[asked]} nor kernels is" if asked in PACKAGES else "the package kernels is not"
        reason = f"{missing} installed (pip install kernels)"
    if reason:
        say(
            f"warning: attn_implementation {asked!r} is not available here: {reason}; taking torch's own (sdpa), as "
            "attn_implementation: sdpa does without this warning"
        )
        return None
    known = ("eager", *ALL_ATTENTION_FUNCTIONS.valid_keys())
    if "/" not in asked and asked not in known:
        named = ", ".join(name for name in known if "|" not in name)
        problem = Problem(
            f"unknown attn_implementation {asked!r}", key=("attn_implementation",), at="value", help=f"one of {named}"
        )
        raise RecipeError([problem])
    return asked
