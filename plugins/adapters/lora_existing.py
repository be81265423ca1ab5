"""Going on from an adapter that was trained before (`lora_model_dir`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import Plan, Problem, RecipeError, UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# recipe key -> the field of the adapter's own config that it would have to agree with
SETTLED = {
    "lora_r": "r",
    "lora_alpha": "lora_alpha",
    "peft_use_rslora": "use_rslora",
    "peft_use_dora": "use_dora",
}
# the same for what changes no scale: the adapter's own value holds, and it is said
UNHEARD = {
    "lora_dropout": "lora_dropout",
    "lora_target_modules": "target_modules",
    "lora_target_parameters": "target_parameters",
    "lora_modules_to_save": "modules_to_save",
    "peft_layers_to_transform": "layers_to_transform",
}


def load_existing(plan: Plan, model: PreTrainedModel) -> torch.nn.Module:
    """`model` with the adapter of `lora_model_dir`, to be trained further; its own settings hold.

    Raises `UserError` where there is no LoRA adapter, `RecipeError` where the recipe sets another rank or scale.
    """
    from peft import PeftConfig, PeftModel, get_peft_model

    from core.console import say
    from core.models import explained, quiet

    folder = _find(plan)
    with explained("lora_model_dir", folder), quiet():
        config: Any = PeftConfig.from_pretrained(folder)
    if str(config.peft_type.value) != "LORA":
        raise UserError(
            f"lora_model_dir {folder!r} holds a {config.peft_type.value} adapter, not LoRA",
            help="name the folder of a LoRA adapter",
        )
    problems = [
        Problem(
            f"{key} is {plan.recipe[key]}, but the adapter in lora_model_dir has {getattr(config, field)}",
            key=(key,),
            at="value",
            help=f"remove {key}: the adapter's own value holds",
        )
        for key, field in SETTLED.items()
        if key in plan.recipe and plan.recipe[key] != getattr(config, field)
    ]
    if problems:
        raise RecipeError(problems)
    if plan.shape_for:
        config.init_lora_weights = True
        shape: torch.nn.Module = get_peft_model(model, config)
        return shape
    with explained("lora_model_dir", folder), quiet():
        wrapped: torch.nn.Module = PeftModel.from_pretrained(model, folder, is_trainable=True)
    say(f"going on from the adapter in {folder} (rank {config.r}, alpha {config.lora_alpha})")
    for key, field in UNHEARD.items():
        asked, held = plan.recipe[key], getattr(config, field)
        if key in plan.recipe and _plain(asked) != _plain(held):
            say(f"warning: {key} has no effect: the adapter in lora_model_dir has {_plain(held) or 'none'}")
    return wrapped


def _plain(value: Any) -> Any:
    """Names in any order, given once, as one value."""
    return sorted(value) if isinstance(value, list | tuple | set) else value or None


def _find(plan: Plan) -> str:
    """The adapter's folder: beside the recipe, else in the working folder, else a hub id as written."""
    text = str(plan.recipe["lora_model_dir"])
    for parent in (plan.recipe.folder_of(("lora_model_dir",)), Path.cwd()):
        folder = (parent / Path(text).expanduser()).absolute()
        if folder.is_dir():
            return str(folder)
    return text
