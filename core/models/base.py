"""Loading the base model: its dtype, its place, its quantisation, and nothing guessed about its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from core.errors import Problem, RecipeError, UserError
from core.models.config import load_config
from core.models.loading import explained, quiet
from core.models.placement import device_map, on_cuda, sharded
from core.models.precision import weight_dtype
from core.models.source import model_source
from core.models.tokenizer import read_tokenizer
from core.types import Plan

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from core.types import Tokenizer

Quantized = Literal[None, "4bit", "8bit"]
RESIZED_MARK = "tunesmith_resized_from"


def load_base(plan: Plan, *, quantized: Quantized = None, frozen: bool = False) -> PreTrainedModel:
    """The base model of `plan` on this rank's device, with embeddings for every token of its tokenizer.

    quantized: "4bit" (NF4, double quantisation) or "8bit", both by bitsandbytes. frozen: none of the loaded weights
    will train, so they may be held in float16. The key-value cache is off, as training wants it. Raises `UserError`
    for anything that is not a complete causal language model.
    """
    from core.console import say
    from transformers import AutoModelForCausalLM

    config = load_config(plan)
    tokenizer, _ = read_tokenizer(plan)
    dtype, reason = weight_dtype(plan, frozen=frozen or quantized is not None)
    arguments: dict[str, Any] = {"dtype": dtype, "attn_implementation": _attention(plan)}
    if quantized:
        arguments["quantization_config"] = _quantization_config(plan, quantized, dtype)
    if place := device_map():
        arguments["device_map"] = place
    with explained("base_model", plan.base_model), quiet():
        model, found = AutoModelForCausalLM.from_pretrained(
            model_source(plan),
            config=config,
            revision=plan.recipe["revision_of_model"] or "main",
            trust_remote_code=plan.trust_remote_code,
            output_loading_info=True,
            **arguments,
        )
    _refuse_missing_weights(plan, found)
    if unexpected := found.get("unexpected_keys"):
        say(f"warning: {len(unexpected)} tensors of the base model are not used, such as {sorted(unexpected)[0]!r}")
    _resize_embeddings(plan, model, tokenizer)
    _follow_tokenizer(model, tokenizer)
    model.config.use_cache = False
    held = {None: "", "4bit": ", linear layers in 4 bits (NF4)", "8bit": ", linear layers in 8 bits"}[quantized]
    say(f"base model in {str(dtype).removeprefix('torch.')}{held} on {model.device} ({reason})")
    loaded: PreTrainedModel = model
    return loaded


def load_untouched_base(plan: Plan) -> torch.nn.Module:
    """The base model as the recipe's adapter loads it (same dtype, same quantisation), for scoring: in eval mode.

    New tokens get embeddings here as well, so that a prompt may hold them. Draws nothing from the random state.
    """
    import torch

    with torch.random.fork_rng():
        model: torch.nn.Module = plan.adapter.base(plan) if plan.adapter.base else load_base(plan)
    return model.eval()


def resized_embeddings(model: torch.nn.Module) -> bool:
    """Whether `load_base` gave this model embeddings that its files do not have."""
    return any(hasattr(module, RESIZED_MARK) for module in model.modules())


def _attention(plan: Plan) -> str | None:
    """The attention to ask transformers for; None lets it choose (sdpa where the model has it)."""
    from core.console import say
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available, is_kernels_available

    asked: str | None = plan.recipe["attn_implementation"]
    if asked is None:
        return None
    missing = {
        "flash_attention_2": not (is_flash_attn_2_available() or (is_kernels_available() and on_cuda())),
        "flash_attention_3": not (is_flash_attn_3_available() or (is_kernels_available() and on_cuda())),
        "flex_attention": not on_cuda(),
        "xformers": True,
    }.get(asked, "/" in asked and not is_kernels_available())
    if missing:
        say(f"warning: attn_implementation {asked!r} is not available here; taking torch's own (sdpa)")
        return None
    return asked


def _quantization_config(plan: Plan, quantized: Quantized, dtype: torch.dtype) -> Any:
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
        if sharded():
            # only tensors of one floating dtype can be sharded together
            chosen["bnb_4bit_quant_storage"] = dtype
    try:
        return BitsAndBytesConfig(**(chosen | dict(plan.recipe["bnb_config_kwargs"] or {})))
    except (TypeError, ValueError) as error:
        problem = Problem(f"bnb_config_kwargs cannot be used: {error}", key=("bnb_config_kwargs",), at="value")
        raise RecipeError([problem]) from error


def _refuse_missing_weights(plan: Plan, found: dict[str, Any]) -> None:
    """transformers fills in missing weights at random and only warns; a run on such a model teaches nothing."""
    if missing := sorted(found.get("missing_keys") or ()):
        shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise UserError(
            f"base_model {plan.base_model!r} lacks weights for {len(missing)} tensors: {shown}",
            help="get a complete copy of the model; a model of another kind (no language-model head) cannot be tuned here",
        )


def _resize_embeddings(plan: Plan, model: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """Give new tokens embeddings, drawn alike in every load. Spare rows that the model has are used, never cut off."""
    import torch
    from core.console import say

    rows = model.get_input_embeddings().num_embeddings
    wanted = max(rows, len(tokenizer))
    if plan.recipe["resize_token_embeddings_to_32x"]:
        wanted = -(-wanted // 32) * 32
    if wanted == rows:
        return
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(int(plan.recipe["seed"] or 0))
        model.resize_token_embeddings(wanted)
    setattr(model, RESIZED_MARK, rows)
    say(f"embeddings resized from {rows:,} to {wanted:,} rows")


def _follow_tokenizer(model: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """Let the model's config end and pad with the run's tokens, so that what is saved generates as it was trained."""
    model.config.pad_token_id = tokenizer.pad_token_id
    if tokenizer.bos_token_id is not None:
        model.config.bos_token_id = tokenizer.bos_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    generation: Any = model.generation_config
    if generation is None:
        return
    ends = generation.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    if tokenizer.eos_token_id not in ends:
        ends.insert(0, tokenizer.eos_token_id)
    generation.eos_token_id = ends if len(ends) > 1 else ends[0]
    generation.pad_token_id = tokenizer.pad_token_id
