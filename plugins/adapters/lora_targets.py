"""Which layers of a model get low-rank matrices."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from core import Plan, Problem, RecipeError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"


def target_modules(plan: Plan, model: PreTrainedModel) -> list[str] | str | None:
    """peft's `target_modules` for the recipe. Raises `RecipeError` for every name that no layer of `model` has."""
    recipe = plan.recipe
    targets = recipe["lora_target_modules"]
    if recipe["lora_target_linear"]:
        if "lora_target_modules" not in recipe:
            return ALL_LINEAR
        # modules named beside it may be of other kinds, such as embeddings
        _refuse_unknown(plan, model, targets)
        return sorted({*linear_layers(model), *targets})
    if recipe["lora_target_parameters"] and "lora_target_modules" not in recipe:
        return None
    _refuse_unknown(plan, model, targets)
    return targets  # type: ignore[no-any-return]


def linear_layers(model: PreTrainedModel) -> list[str]:
    """The last parts of the names of all linear layers, packed ones included, without the output head."""
    head = _embeddings(model)["output"]
    layers = (name for name, module in model.named_modules() if _is_linear(module) and module is not head)
    return sorted({name.rpartition(".")[2] for name in layers})


def _embeddings(model: Any) -> dict[str, Any]:
    return {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}


def new_token_rows(plan: Plan, model: PreTrainedModel) -> dict[str, list[int]] | None:
    """The embedding rows that must train because the recipe adds their tokens, by the name of their layer.

    None where nothing is added, or where the embeddings train as a whole or by an adapter of their own.
    """
    from core.models import added_tokens

    rows = added_tokens(plan)
    if not rows:
        return None
    layers = _embeddings(model)
    names = {
        kind: name.rpartition(".")[2]
        for kind, layer in layers.items()
        for name, module in model.named_modules()
        if module is layer
    }
    trained = {*(plan.recipe["lora_modules_to_save"] or ()), *_listed(plan.recipe["lora_target_modules"])}
    if names["input"] in trained:
        return None
    tied = layers["output"] is None or layers["output"].weight is layers["input"].weight
    wanted = [names["input"]] if tied else [name for name in names.values() if name not in trained]
    from core.console import say

    say(f"training the embeddings of {len(rows)} added tokens beside the adapter")
    return dict.fromkeys(wanted, rows)


def _listed(targets: Any) -> list[str]:
    return list(targets) if isinstance(targets, list | tuple) else []


def _is_linear(module: torch.nn.Module) -> bool:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def _refuse_unknown(plan: Plan, model: PreTrainedModel, targets: list[str] | str) -> None:
    names = [name for name, _ in model.named_modules()]
    there = linear_layers(model)
    set_by_recipe = "lora_target_modules" in plan.recipe
    advice = f"its linear layers are called {', '.join(there)}; `lora_target_linear: true` takes them all"

    def problem(message: str, *index: int, near: str | None = None) -> Problem:
        key: tuple[str | int, ...] = ("lora_target_modules", *index) if set_by_recipe else ("adapter",)
        help = f"did you mean {near!r}? {advice[0].upper()}{advice[1:]}" if near else advice
        return Problem(message, key=key, at="value", help=help)

    if isinstance(targets, str):
        if targets != ALL_LINEAR and not any(re.fullmatch(targets, name) for name in names):
            raise RecipeError([problem(f"lora_target_modules {targets!r} matches no layer of the model")])
        return
    missing = [
        (index, target)
        for index, target in enumerate(targets)
        if not any(name == target or name.endswith(f".{target}") for name in names)
    ]
    if missing:
        origin = "" if set_by_recipe else " (the default of lora_target_modules)"
        raise RecipeError(
            [
                problem(
                    f"the model has no layer called {target!r}{origin}",
                    *([index] if set_by_recipe else []),
                    near=next(iter(get_close_matches(target, there, n=1)), None),
                )
                for index, target in missing
            ]
        )
