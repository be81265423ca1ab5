"""Which attention implementation a model is loaded with."""

from __future__ import annotations

from core.errors import Problem, RecipeError
from core.models.placement import on_cuda
from core.types import Plan


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
    kernels = is_kernels_available() and on_cuda()
    available = {
        "flash_attention_2": is_flash_attn_2_available() or kernels,
        "flash_attention_3": is_flash_attn_3_available() or kernels,
        "flash_attention_4": is_flash_attn_4_available() or kernels,
        "flex_attention": on_cuda(),
        "xformers": False,
        "sage": False,
    }
    if not available.get(asked, kernels if "/" in asked else True):
        say(f"warning: attn_implementation {asked!r} is not available here; taking torch's own (sdpa)")
        return None
    known = ("eager", *ALL_ATTENTION_FUNCTIONS.valid_keys())
    if "/" not in asked and asked not in known:
        named = ", ".join(name for name in known if "|" not in name)
        problem = Problem(
            f"unknown attn_implementation {asked!r}", key=("attn_implementation",), at="value", help=f"one of {named}"
        )
        raise RecipeError([problem])
    return asked
