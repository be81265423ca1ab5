"""Core's own recipe keys, and the rules between them: a plugin like any other, only built in."""

from __future__ import annotations

from core.errors import Problem
from core.hookspecs import hookimpl
from core.recipe import Recipe
from core.schema_files import load_fragment
from core.types import Schema


@hookimpl
def recipe_keys() -> dict[str, Schema]:
    """The keys of schemas/recipe.json, training.json and evaluation.json."""
    return {**load_fragment("recipe"), **load_fragment("training"), **load_fragment("evaluation")}


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """Rules across core's keys."""
    return []
