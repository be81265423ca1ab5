"""Small recipes on the tiny model, for tests of components that need a plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from core.host import Host
from core.types import Plan

ALPACA_ROWS = tuple(
    {"instruction": "Answer with yes or no.", "input": f"Is {number} even?", "output": "no" if number % 2 else "yes"}
    for number in range(12)
)


def write_tiny_recipe(
    folder: Path,
    model: Path,
    values: Mapping[str, Any] | None = None,
    *,
    rows: Sequence[Mapping[str, Any]] = ALPACA_ROWS,
    held_out: Sequence[Mapping[str, Any]] = (),
    name: str = "recipe.yml",
) -> Path:
    """Write a recipe of three quick steps to `folder`, with its data; `values` replace or add keys.

    rows go to `train.jsonl`, and held_out, if any, to `test.jsonl` for the recipe's `evaluation`.

    A value of None removes the key. Returns the recipe's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "train.jsonl"
    for file, written in ((data, rows), (folder / "test.jsonl", held_out)):
        if written:
            file.write_text("".join(f"{json.dumps(dict(row))}\n" for row in written), encoding="utf-8")
    recipe: dict[str, Any] = {
        "base_model": str(model),
        "datasets": [{"path": str(data), "type": "alpaca"}],
        "output_dir": str(folder / "out"),
        "sequence_len": 256,
        "max_steps": 3,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "bf16": False,
        **(values or {}),
    }
    path = folder / name
    path.write_text(
        yaml.safe_dump({key: value for key, value in recipe.items() if value is not None}), encoding="utf-8"
    )
    return path


def tiny_plan(folder: Path, model: Path, host: Host, values: Mapping[str, Any] | None = None, **options: Any) -> Plan:
    """The plan of such a recipe; `options` are those of `write_tiny_recipe`."""
    from core.plan import make_plan
    from core.recipe import load_recipe

    return make_plan(load_recipe(write_tiny_recipe(folder, model, values, **options)), host, overwrite=True)
