"""Recipes that came from elsewhere, in a package or from a server, name no files of the machine they run on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.check.schema import schema_at
from core.errors import Problem
from core.recipe import Recipe, Source
from core.types import KeyPath, Schema


def escape_problems(recipe: Recipe, schema: Schema) -> Iterator[Problem]:
    """An error for every path that a packaged or fetched file writes and that leads out of it.

    Paths are the values whose schema says `x-path`: true for inputs beside the file, "working" for what starts in the
    working folder or in another path. Hub ids and addresses with `://` are none, and a variable is filled
    in by who runs the recipe.
    """
    if any(source.contained for source in recipe.sources.values()):
        for path, text in _paths(recipe.written_values(), (), schema):
            source = recipe.source_of(path)
            if source is not None and source.contained and _escapes(text, source, schema_at(schema, path)["x-path"]):
                where = f"the package {source.root.name!r}" if source.root else source.file
                yield Problem(
                    f"{text!r} points outside {where}",
                    key=path,
                    at="value",
                    help="a shared recipe leaves such a path to a variable, as in ${DATA_DIR}/train.jsonl, or to --set",
                )


def _escapes(text: str, source: Source, kind: Any) -> bool:
    """Whether a path leads out of the package, or where it is not read beside the file, out of the working folder."""
    if "://" in text or "{{" in text or "\n" in text:
        return False
    path = Path(text)
    if path.is_absolute() or text.startswith("~") or ("${" in text and ".." in path.parts):
        return True
    if kind == "working" or source.root is None or source.folder is None:
        return ".." in Path(os.path.normpath(path)).parts
    # compared without following links: package managers link files in from a store outside the package
    return not Path(os.path.normpath(source.folder / path)).is_relative_to(os.path.normpath(source.root))


def _paths(value: Any, path: KeyPath, schema: Schema) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        if schema_at(schema, path).get("x-path"):
            yield path, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _paths(entry, (*path, key), schema)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _paths(entry, (*path, index), schema)
