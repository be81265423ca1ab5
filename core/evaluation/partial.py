"""Answers kept when a metric fails, so that a long generation is not lost."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from core.results import Generation
from core.types import Item


def save_partial(folder: Path, column: str, generations: Sequence[Generation], items: Sequence[Item]) -> Path:
    """Write `<column>.answers.jsonl` into `folder`, whole or not at all; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{column}.answers.jsonl"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        for generation, item in zip(generations, items, strict=True):
            row = {
                "index": item.index,
                "place": item.place,
                "prompt": item.prompt,
                "references": list(item.references),
                "prediction": generation.text,
                "tokens": generation.tokens,
                "stopped": generation.stopped,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(temporary, path)
    return path
