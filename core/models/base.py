"""Loading the base model: its dtype, its place, its quantisation, and nothing guessed about its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.memory import returned_at_once
from core.models.attention import attention
from core.models.config import load_config, model_arguments
from core.models.loading import explained, quiet, read_apart
from core.models.placement import device_map
from core.models.precision import weight_dtype
from core.models.quantization import HELD, Quantized, quantization_config, settle
from core.models.source import model_source
from core.models.tokenizer import read_tokenizer
from core.types import Plan

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from core.types import Tokenizer

RESIZED_MARK = "tunesmith_resized_from"


def load_base(plan: Plan, *, quantized: Quantized = None, frozen: bool = False) -> PreTrainedModel:
    """The base model of `plan` on this rank's device, with embeddings for every token of its tokenizer.

    quantized: "4bit" (NF4, double quantisation) or "8bit", both by bitsandbytes. frozen: none of the loaded weights
    will train, so they may be held in float16. The key-value cache is off, as training wants it. Raises `UserError`
    for anything that is not a complete causal language model.
    """
    from core.console import say

    if plan.shape_for:
        from core.models.shape import base_shape

        shape: PreTrainedModel = base_shape(plan, quantized=quantized, frozen=frozen)
        return shape
    config = load_config(plan)
    tokenizer, _ = read_tokenizer(plan)
    dtype, reason = weight_dtype(plan, frozen=frozen or quantized is not None)
    arguments: dict[str, Any] = {"dtype": dtype, "attn_implementation": attention(plan)}
    if quantized:
        arguments["quantization_config"] = quantization_config(plan, quantized, dtype)
    model = _drawn(plan, config, arguments) if plan.recipe["reinit_weights"] else _loaded(plan, config, arguments)
    if quantized:
        settle(model)
    _resize_embeddings(plan, model, tokenizer)
    _follow_tokenizer(model, tokenizer)
    model.config.use_cache = False
    say(f"base model in {str(dtype).removeprefix('torch.')}{HELD[quantized]} on {model.device} ({reason})")
    return model


def _loaded(plan: Plan, config: Any, arguments: dict[str, Any]) -> PreTrainedModel:
    """The model with the weights of its files, on its device."""
    from transformers import AutoModelForCausalLM

    from core.console import say

    place = device_map()
    if place:
        arguments["device_map"] = place
    apart = read_apart(in_turn=place is None)
    with explained("base_model", plan.base_model), quiet(), apart, returned_at_once():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model_source(plan),
            config=config,
            output_loading_info=True,
            **model_arguments(plan),
            **arguments,
        )
    model: PreTrainedModel = loaded[0]
    found: dict[str, Any] = loaded[1]
    _refuse_missing_weights(plan, found)
    if unexpected := found.get("unexpected_keys"):
        say(f"warning: {len(unexpected)} tensors of the base model are not used, such as {sorted(unexpected)[0]!r}")
    return model


def _drawn(plan: Plan, config: Any, arguments: dict[str, Any]) -> PreTrainedModel:
    """A model of the base's shape with random weights, the same in every load."""
    import torch
    from transformers import AutoModelForCausalLM

    from core.console import say

    make: Any = AutoModelForCausalLM
    with torch.random.fork_rng(), explained("base_model", plan.base_model), quiet():
        torch.manual_seed(int(plan.recipe["seed"] or 0))
        model: PreTrainedModel = make.from_config(config, trust_remote_code=plan.trust_remote_code, **arguments)
    if place := device_map():
        model.to(place[""])
    say("reinit_weights: the base model starts from random weights, and knows nothing")
    return model


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


def _refuse_missing_weights(plan: Plan, found: dict[str, Any]) -> None:
    """transformers fills in missing weights at random and only warns; a run on such a model teaches nothing."""
    if missing := sorted(found.get("missing_keys") or ()):
        shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise UserError(
            f"base_model {plan.base_model!r} lacks weights for {len(missing)} tensors: {shown}",
            help="get a complete copy; a model of another kind, without a language-model head, cannot be tuned here",
        )


def _resize_embeddings(plan: Plan, model: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """Give new tokens embeddings, drawn alike in every load. Spare rows that the model has are used, never cut off."""
    import torch

    from core.console import say

    rows = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
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
