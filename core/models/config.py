"""The base model's own config.json, and the recipe's `model_type` held against it."""

from __future__ import annotations

from typing import Any

from core.errors import Problem, RecipeError
from core.models.loading import explained, load_arguments, quiet
from core.models.source import model_source
from core.types import Plan

AUTO_CLASS = "AutoModelForCausalLM"


def load_config(plan: Plan) -> Any:
    """The base model's transformers config. Raises `UserError` where there is none or `model_type` contradicts it."""
    from transformers import AutoConfig

    with explained("base_model", plan.base_model), quiet():
        config = AutoConfig.from_pretrained(model_source(plan), **model_arguments(plan))
    _check_model_type(plan, config)
    return config


def model_arguments(plan: Plan) -> dict[str, Any]:
    """The `from_pretrained` arguments that choose the base model's files."""
    return load_arguments(
        plan.base_model, revision=plan.recipe["revision_of_model"], trust_remote_code=plan.trust_remote_code
    )


def _check_model_type(plan: Plan, config: Any) -> None:
    asked = plan.recipe["model_type"]
    if not asked or asked == AUTO_CLASS:
        return
    named = list(getattr(config, "architectures", None) or [])
    names = set(named) | _auto_classes(config)
    if asked in names:
        return
    what = " or ".join(named or sorted(names)) or f"a {config.model_type} model"
    raise RecipeError(
        [
            Problem(
                f"model_type {asked!r} contradicts the model's own config.json, which says {what}",
                key=("model_type",),
                at="value",
                help=f"remove model_type, or set it to {AUTO_CLASS}",
            )
        ]
    )


def _auto_classes(config: Any) -> set[str]:
    """The class names that transformers would load this config with as a causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    found = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type, ())
    return {found} if isinstance(found, str) else set(found)
