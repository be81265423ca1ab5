"""Where the files that a recipe names are. Light: nothing is opened."""

from __future__ import annotations

import os
from pathlib import Path

from core.sharing.files import exists

DATA_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".txt")
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")


def resolve_input_path(text: str, recipe_folder: Path) -> str:
    """The absolute path of an input that exists beside the recipe or, failing that, in the working folder.

    Text that is no local path (a hub id, an address with `://`, a template) comes back as it is; a path that exists
    nowhere comes back as it would be beside the recipe.
    """
    if "://" in text:
        return text
    path = _expanded(text)
    for folder in (recipe_folder, Path()):
        candidate = folder / path
        if exists(candidate):
            return os.path.abspath(candidate)
    return os.path.abspath(recipe_folder / path) if looks_local(text) else text


def looks_local(text: str) -> bool:
    """Whether a path can only be local: it starts with `.`, `/` or `~`, or has the suffix of a data file."""
    # an address, or a template in place of a file that holds one
    if any(mark in text for mark in ("://", "{{", "{%", "\n")):
        return False
    name = text.lower()
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    return text.startswith((".", "/", "~")) or name.endswith(DATA_SUFFIXES)


def is_missing(text: str, recipe_folder: Path) -> bool:
    """Whether `text` means a local file or folder, and there is none."""
    return looks_local(text) and not exists(Path(resolve_input_path(text, recipe_folder)))


def names_nearby(text: str, recipe_folder: Path) -> list[str]:
    """What lies in the folder where `text` was looked for, written the way `text` is."""
    wanted = _expanded(text)
    for folder in (recipe_folder, Path()):
        place = (folder / wanted).parent
        try:
            entries = sorted(entry.name for entry in place.iterdir())[:1000]
        except (OSError, ValueError):
            continue
        written = text[: len(text) - len(wanted.name)]
        return [written + name for name in entries]
    return []


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # `~nobody`: a user who does not exist has no home
        return Path(text)
