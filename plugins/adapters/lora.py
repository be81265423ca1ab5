"""LoRA and QLoRA: small low-rank matrices train, the base model stays as it is (Hu et al. 2021; Dettmers et al. 2023).

`lora` trains on the base in full or half precision, or in 8 bits with `load_in_8bit`; `qlora` always on 4 bits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core import Adapter, Plan, Problem, UserError, hookimpl, load_base, load_fragment
from plugins.adapters.lora_rules import MOVES_THE_BASE, lora_problems

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

    from core import Recipe

LORA, QLORA = "lora", "qlora"


@hookimpl
def recipe_keys() -> dict[str, Any]:
    return load_fragment("lora")


@hookimpl
def adapters() -> list[Adapter]:
    shared: dict[str, Any] = {"base_view": base_view, "save": save, "load": load, "merge": merge, "base": base}
    return [
        Adapter(LORA, build, **shared, description="low-rank matrices train beside the frozen weights"),
        Adapter(QLORA, build, **shared, description="as lora, on a base held in 4 bits"),
    ]


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    return lora_problems(recipe) if recipe["adapter"] in (LORA, QLORA) else []


def base(plan: Plan) -> PreTrainedModel:
    """The base model as LoRA trains on it: frozen, in 4 bits for qlora, in 8 bits with `load_in_8bit`."""
    from core.models import added_tokens, quiet

    with quiet():
        # brings bitsandbytes along, which reports the kernels it did not find
        import peft  # noqa: F401
    # float16 is fit for weights that stay as they are, not for modules trained in full
    frozen = not plan.recipe["lora_modules_to_save"] and not added_tokens(plan)
    return load_base(plan, quantized=_quantized(plan), frozen=frozen)


def build(plan: Plan) -> torch.nn.Module:
    """The base with LoRA matrices in float32, the only parameters (with `lora_modules_to_save`) that train.

    Norms and embeddings are not upcast: the base view stays exactly the base. Raises `RecipeError` for target layers
    that the model does not have, `UserError` for what peft cannot build or an adapter that cannot be loaded.
    """
    model = base(plan)
    model.requires_grad_(False)
    if plan.recipe["gradient_checkpointing"]:
        # a recomputed block needs an input with a gradient, and frozen embeddings give none
        model.enable_input_require_grads()  # type: ignore[no-untyped-call]
    if plan.recipe["lora_model_dir"]:
        from plugins.adapters.lora_existing import load_existing

        return load_existing(plan, model)
    from core.models import shortened
    from plugins.adapters.lora_targets import linear_layers, refuse_unknown_names

    refuse_unknown_names(plan, model)
    layers = ", ".join(linear_layers(model))  # now: peft wraps some before it refuses one
    try:
        return _wrap(model, _config(plan, model))
    except ValueError as error:
        # what peft has no form for: a norm as a target, an odd rank with an orthogonal start
        reason, help = shortened(error), "change the keys it speaks of"
        if "target_modules" in reason:
            help = f"name others in lora_target_modules, without lora_target_linear: its linear layers are {layers}"
        raise UserError(f"peft cannot build this adapter: {reason}", help=help) from error


def base_view(plan: Plan, model: torch.nn.Module) -> AbstractContextManager[Any] | None:
    """The adapter switched off, where that is exactly the base: not if its start moved the base weights, if embeddings
    were resized, if it went on from an earlier adapter, or if bare parameters are adapted."""
    from core.models import resized_embeddings

    recipe = plan.recipe
    moved = str(recipe["peft_init_lora_weights"]).startswith(MOVES_THE_BASE)
    if moved or recipe["lora_model_dir"] or recipe["lora_target_parameters"] or resized_embeddings(model):
        return None
    view: AbstractContextManager[Any] = _peft_model(model).disable_adapter()
    return view


def save(plan: Plan, model: torch.nn.Module, folder: Path) -> None:
    """adapter_model.safetensors and adapter_config.json, such that peft loads them on the untouched base."""
    from core.processes import is_main
    from plugins.adapters.lora_weights import plain_adapter, write_adapter

    config, weights = plain_adapter(_peft_model(model))
    if is_main():
        write_adapter(config, weights, folder)


def load(plan: Plan, folder: Path) -> torch.nn.Module:
    """The base with the adapter saved in `folder`, for scoring."""
    from peft import PeftModel

    from core.models import explained, quiet

    model = base(plan)
    with explained("the adapter in", str(folder)), quiet():
        tuned: torch.nn.Module = PeftModel.from_pretrained(model, str(folder))
    return tuned.eval()


def merge(plan: Plan, model: torch.nn.Module) -> torch.nn.Module:
    """A plain model with the updates added to the weights. `model` stays as it is: the base is loaded once more, and a
    packed one is unpacked first, so that the sum is not rounded to 4 or 8 bits again."""
    from peft import set_peft_model_state_dict

    from core.models import quiet
    from plugins.adapters.lora_weights import plain_adapter

    config, weights = plain_adapter(_peft_model(model))
    fresh: Any = base(plan)
    if _quantized(plan):
        with quiet():
            fresh = fresh.dequantize()
    wrapped = _wrap(fresh, config)
    set_peft_model_state_dict(wrapped, weights)
    merged: torch.nn.Module = wrapped.merge_and_unload()
    return merged.eval()


def _quantized(plan: Plan) -> Literal[None, "4bit", "8bit"]:
    if plan.adapter.name == QLORA:
        return "4bit"
    return "8bit" if plan.recipe["load_in_8bit"] else None


def _config(plan: Plan, model: PreTrainedModel) -> LoraConfig:
    from peft import LoraConfig

    from plugins.adapters.lora_targets import new_token_rows, target_modules

    recipe = plan.recipe
    start = recipe["peft_init_lora_weights"]
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe["lora_r"],
        lora_alpha=recipe["lora_alpha"],
        lora_dropout=recipe["lora_dropout"],
        target_modules=target_modules(plan, model),
        target_parameters=recipe["lora_target_parameters"],
        modules_to_save=recipe["lora_modules_to_save"] or None,
        fan_in_fan_out=bool(recipe["lora_fan_in_fan_out"]),
        use_rslora=bool(recipe["peft_use_rslora"]),
        use_dora=bool(recipe["peft_use_dora"]),
        init_lora_weights=True if start is None or plan.shape_for else start,
        layers_to_transform=recipe["peft_layers_to_transform"],
        revision=recipe["revision_of_model"],
        trainable_token_indices=new_token_rows(plan, model),
    )


def _wrap(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    from core.models import quiet
    from plugins.adapters.lora_weights import remember_start

    with quiet():
        from peft import get_peft_model

        wrapped: Any = get_peft_model(model, config)
    remember_start(wrapped)
    return wrapped  # type: ignore[no-any-return]


def _peft_model(model: torch.nn.Module) -> PeftModel:
    """The peft model inside whatever the trainer wrapped around it."""
    from peft import PeftModel

    return next(module for module in model.modules() if isinstance(module, PeftModel))
