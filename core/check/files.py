"""Files that the recipe names and that are not there; found before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.check.names import did_you_mean
from core.check.paths import is_missing, names_nearby
from core.check.schema import ITEM_LISTS, find_component
from core.errors import Problem, UserError
from core.host import Host
from core.recipe import Recipe
from core.types import KeyPath


def file_problems(recipe: Recipe, host: Host) -> Iterator[Problem]:
    """An error for every local file the recipe names, and for a base model, that does not exist."""
    from core.models.source import resolve_base_model

    model = recipe.values.get("base_model")
    if isinstance(model, str) and model:
        try:
            resolve_base_model(model, recipe.folder_of(("base_model",)))
        except UserError as error:
            yield Problem(error.message, key=("base_model",), at="value", help=error.help)
    yield from _compared_models(recipe)
    for path, kind in ITEM_LISTS.items():
        entries: Any = recipe.values
        for part in path:
            entries = entries.get(part) if isinstance(entries, Mapping) else None
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if not isinstance(entry, Mapping):
                continue
            component = find_component(host, kind.table, entry.get("type"))
            options = component.options_schema if component else {}
            for key in ("path", *(name for name, option in options.items() if option.get("x-path"))):
                yield from _missing(entry.get(key), (*path, index, key), recipe)


def _compared_models(recipe: Recipe) -> Iterator[Problem]:
    """Other models in `evaluation.compare` that are not there."""
    from core.models.source import resolve_base_model

    settings = recipe.values.get("evaluation")
    entries = settings.get("compare") if isinstance(settings, Mapping) else None
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        model = entry.get("model") if isinstance(entry, Mapping) else None
        place: KeyPath = ("evaluation", "compare", index, "model")
        if isinstance(model, str) and model:
            try:
                resolve_base_model(model, recipe.folder_of(place), what="model")
            except UserError as error:
                yield Problem(error.message, key=place, at="value", help=error.help)


def _missing(text: Any, place: KeyPath, recipe: Recipe) -> Iterator[Problem]:
    folder = recipe.folder_of(place)
    if isinstance(text, str) and is_missing(text, folder):
        near = did_you_mean(text, names_nearby(text, folder))
        if "*" in text and place[-1] == "path":
            near = f"name the folder, and the pattern as data_files: {text.rpartition('/')[2]!r}"
        advice = near or "a relative path starts at the recipe's folder, then at the working folder"
        yield Problem(f"no such file: {text!r}", key=place, at="value", help=advice)
