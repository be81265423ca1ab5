"""Recipes on disk, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path


def write(**files: str) -> None:
    """`a__b="text"` writes a/b.yml into the current folder."""
    for name, text in files.items():
        path = Path(name.replace("__", "/") + ".yml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
