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
    """peft's `target_modules` for the recipe; None where only bare parameters are adapted."""
    recipe = plan.recipe
    targets = recipe["lora_target_modules"]
    named = "lora_target_modules" in recipe
    if recipe["lora_target_linear"]:
        # modules named beside it may be of other kinds, such as embeddings
        return sorted({*linear_layers(model), *targets}) if named else ALL_LINEAR
    if recipe["lora_target_parameters"] and not named:
        return None
    return targets  # type: ignore[no-any-return]


def refuse_unknown_names(plan: Plan, model: PreTrainedModel) -> None:
    """Raise `RecipeError` with every layer, module or parameter of the recipe that `model` does not have.

    peft is silent about a name that matches nothing as long as another one matches.
    """
    modules = [name for name, _ in model.named_modules()]
    parameters = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    problems = _unknown_targets(plan, model, modules)
    for key, names, kind in (
        ("lora_modules_to_save", modules, "module"),
        ("lora_target_parameters", parameters, "parameter"),
    ):
        problems += [
            Problem(
                f"the model has no {kind} called {wanted!r}",
                key=(key, index),
                at="value",
                help=_suggestion(wanted, [name.rpartition(".")[2] for name in names])
                or f"its {kind}s are called {', '.join(_shown(names))} ...",
            )
            for index, wanted in enumerate(plan.recipe[key] or ())
            if not _any_ends_with(names, wanted)
        ]
    layers = plan.recipe["peft_layers_to_transform"]
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    asked = [] if layers is None else [layers] if isinstance(layers, int) else list(layers)
    if count is not None and (beyond := [number for number in asked if number >= count]):
        problems.append(
            Problem(
                f"the model has no layer {beyond[0]}: its {count} layers are numbered from 0",
                key=("peft_layers_to_transform",),
                at="value",
                help=f"name layers from 0 to {count - 1}",
            )
        )
    if problems:
        raise RecipeError(problems)


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


def _unknown_targets(plan: Plan, model: PreTrainedModel, modules: list[str]) -> list[Problem]:
    targets = target_modules(plan, model)
    if targets is None or targets == ALL_LINEAR:
        return []
    set_by_recipe = "lora_target_modules" in plan.recipe
    there = linear_layers(model)
    advice = f"its linear layers are called {', '.join(there)}; `lora_target_linear: true` takes them all"
    if isinstance(targets, str):
        if any(re.fullmatch(targets, name) for name in modules):
            return []
        message = f"lora_target_modules {targets!r} matches no layer of the model"
        return [Problem(message, key=("lora_target_modules",), at="value", help=advice)]
    origin = "" if set_by_recipe else " (the default of lora_target_modules)"
    problems = []
    for index, wanted in enumerate(plan.recipe["lora_target_modules"]):
        if _any_ends_with(modules, wanted):
            continue
        near = _suggestion(wanted, there)
        problems.append(
            Problem(
                f"the model has no layer called {wanted!r}{origin}",
                key=("lora_target_modules", index) if set_by_recipe else ("adapter",),
                at="value",
                help=f"{near} {advice[0].upper()}{advice[1:]}" if near else advice,
            )
        )
    return problems


def _any_ends_with(names: list[str], wanted: str) -> bool:
    return any(name == wanted or name.endswith(f".{wanted}") for name in names)


def _suggestion(wanted: str, there: list[str]) -> str | None:
    near = get_close_matches(wanted, there, n=1)
    return f"did you mean {near[0]!r}?" if near else None


def _shown(names: list[str]) -> list[str]:
    """A few telling ones of many names."""
    return sorted({name.rpartition(".")[2] for name in names if name and not name.rpartition(".")[2].isdigit()})[:12]
