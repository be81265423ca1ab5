"""Addresses of data that a recipe names: those that are refused, and packages that reading them lacks. Light."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from core.check.schema import ITEM_LISTS
from core.data.addresses import is_address, missing_package, refusal
from core.errors import Problem
from core.recipe import Recipe
from core.secrets import masked_address
from core.types import KeyPath

ZSTD = ".zst"


def address_problems(recipe: Recipe) -> Iterator[Problem]:
    """An error for every address that nothing here reads; for a missing package a warning that stops a run."""
    for key, text in _named(recipe):
        if is_address(text):
            if found := refusal(text):
                yield Problem(found[0], key=key, at="value", help=found[1])
            elif lack := missing_package(text):
                yield _lacking(f"{masked_address(text)!r} needs the package {lack[0]}", lack[1], key)
        if text.partition("?")[0].lower().endswith(ZSTD) and not _reads_zstd():
            yield _lacking(
                f"{masked_address(text)!r} needs the package zstandard", 'pip install "tunesmith[zstd]"', key
            )


def _lacking(what: str, command: str, key: KeyPath) -> Problem:
    message = f"{what}, which is not installed"
    return Problem(message, key=key, at="value", help=f"install it: {command}", severity="warning", blocks_run=True)


def _reads_zstd() -> bool:
    if find_spec("zstandard") is not None:
        return True
    try:
        return find_spec("compression.zstd") is not None  # Python 3.14
    except ModuleNotFoundError:
        return False


def _named(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Every `path` and `data_files` of a data set, with where it stands."""
    for path, kind in ITEM_LISTS.items():
        entries: Any = recipe.values
        for part in path:
            entries = entries.get(part) if isinstance(entries, Mapping) else None
        for index, entry in enumerate(entries if kind.table == "formats" and isinstance(entries, list) else ()):
            if not isinstance(entry, Mapping):
                continue
            for name in ("path", "data_files"):
                given = entry.get(name)
                if isinstance(given, str):
                    yield (*path, index, name), given
                elif isinstance(given, list):
                    yield from (
                        ((*path, index, name, number), text)
                        for number, text in enumerate(given)
                        if isinstance(text, str)
                    )
