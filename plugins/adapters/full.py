"""Full fine-tuning: every weight of the base model trains, or those that `unfrozen_parameters` names."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from core import Adapter, Plan, Problem, RecipeError, hookimpl, load_base, load_fragment

if TYPE_CHECKING:
    import torch

    from core import Recipe

NAME = "full"


@hookimpl
def recipe_keys() -> dict[str, Any]:
    return load_fragment("full")


@hookimpl
def adapters() -> list[Adapter]:
    return [Adapter(NAME, build, base_view=base_view, description="every weight trains (the default)")]


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    if (recipe["adapter"] or NAME) != NAME:
        return []
    problems = [
        Problem(
            f"{key} with full fine-tuning: packed weights cannot train",
            key=(key,),
            at="value",
            help=f"set `adapter: {adapter}` to train a small adapter on the packed weights, or remove {key}",
        )
        for key, adapter in (("load_in_4bit", "qlora"), ("load_in_8bit", "lora"))
        if recipe[key]
    ]
    for index, pattern in enumerate(recipe["unfrozen_parameters"] or ()):
        if re.search(r"\[\d*:\d*\]$", pattern):
            message, help = (
                f"{pattern!r} asks for a range of rows",
                "name whole parameters; ranges of rows are not offered",
            )
        elif error := _regex_error(pattern):
            message, help = f"{pattern!r} is no regular expression: {error}", "escape the characters .[](){}*+?^$|"
        else:
            continue
        problems.append(Problem(message, key=("unfrozen_parameters", index), at="value", help=help))
    return problems


def build(plan: Plan) -> torch.nn.Module:
    """The base model with all of its weights, or those named by `unfrozen_parameters`, requiring gradients."""
    model = load_base(plan)
    model.requires_grad_(True)
    if patterns := plan.recipe["unfrozen_parameters"]:
        _train_only(model, patterns)
    return model


def base_view(plan: Plan, model: torch.nn.Module) -> AbstractContextManager[None] | None:
    """Before training, the model is the base; with embeddings of its own for new tokens it no longer is."""
    from core.models import resized_embeddings

    return None if resized_embeddings(model) else nullcontext()


def _train_only(model: torch.nn.Module, patterns: list[str]) -> None:
    """Freeze every parameter that no pattern matches. A shared parameter answers to each of its names."""
    named = list(model.named_parameters(remove_duplicate=False))
    problems = [
        Problem(
            f"{pattern!r} matches no parameter of the model",
            key=("unfrozen_parameters", index),
            at="value",
            help=f"its parameters have names such as {named[0][0]} and {named[-1][0]}",
        )
        for index, pattern in enumerate(patterns)
        if not any(re.match(pattern, name) for name, _ in named)
    ]
    if problems:
        raise RecipeError(problems)
    trained = {id(parameter) for name, parameter in named if any(re.match(pattern, name) for pattern in patterns)}
    for _, parameter in named:
        parameter.requires_grad_(id(parameter) in trained)


def _regex_error(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    return None
