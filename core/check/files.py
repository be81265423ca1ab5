"""Files that the recipe names and that are not there; found before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.check.names import did_you_mean
from core.check.paths import is_missing, names_nearby
from core.errors import Problem, UserError
from core.recipe import Recipe
from core.types import KeyPath

_LISTS: tuple[KeyPath, ...] = (("datasets",), ("test_datasets",), ("evaluation", "datasets"))


def file_problems(recipe: Recipe) -> Iterator[Problem]:
    """An error for every local data file and base model that does not exist."""
    from core.models.source import resolve_base_model

    folder = recipe.path.parent
    model = recipe.values.get("base_model")
    if isinstance(model, str) and model:
        try:
            resolve_base_model(model, folder)
        except UserError as error:
            yield Problem(error.message, key=("base_model",), at="value", help=error.help)
    for path in _LISTS:
        entries: Any = recipe.values
        for part in path:
            entries = entries.get(part) if isinstance(entries, Mapping) else None
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            text = entry.get("path") if isinstance(entry, Mapping) else None
            if isinstance(text, str) and is_missing(text, folder):
                near = did_you_mean(text, names_nearby(text, folder))
                yield Problem(
                    f"no such file: {text!r}",
                    key=(*path, index, "path"),
                    at="value",
                    help=near or "a relative path starts at the recipe's folder, then at the working folder",
                )
