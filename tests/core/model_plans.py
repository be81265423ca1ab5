"""Plans for tests of models and adapters: the real adapters and the schemas' own defaults, no recipe file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core import Plan, Recipe, Trainer, load_fragment
from core.types import EvaluationPlan
from plugins.adapters import full, lora

ADAPTERS = {adapter.name: adapter for adapter in (*full.adapters(), *lora.adapters())}


def make_model_plan(tmp_path: Path, base_model: Path | str, **values: Any) -> Plan:
    """A plan for `base_model` into `tmp_path / "out"`; `values` are what the recipe sets."""
    fragments = load_fragment("full") | load_fragment("lora")
    defaults = {key: schema["default"] for key, schema in fragments.items() if "default" in schema}
    recipe = Recipe(
        path=tmp_path / "recipe.yml",
        text="",
        values={"base_model": str(base_model), **values},
        defaults=defaults | {"adapter": "full", "seed": 42, "bf16": "auto"},
    )
    return Plan(
        recipe=recipe,
        base_model=str(base_model),
        output_dir=tmp_path / "out",
        adapter=ADAPTERS[recipe["adapter"]],
        trainer=Trainer("none", prepare=lambda plan, model, tokenizer, data: None),  # type: ignore[arg-type]
        datasets=(),
        validation=(),
        evaluation=EvaluationPlan(),
    )
