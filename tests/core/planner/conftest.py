from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.host import load_host
from core.plan import make_plan
from core.recipe import load_recipe
from core.types import Plan

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}
SHAPES = {
    "small": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 8,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
    },
    "70b": {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_attention_heads": 64,
        "num_hidden_layers": 80,
        "num_key_value_heads": 8,
    },
}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Plan]:
    """make(model folder or a shape's name, **recipe keys) -> a plan; a shape has a config.json and nothing else."""

    def plan(model: Path | str, **values: Any) -> Plan:
        if isinstance(model, str):
            folder = tmp_path / f"llama-{model}"
            folder.mkdir(exist_ok=True)
            (folder / "config.json").write_text(json.dumps({**LLAMA, **SHAPES[model]}), encoding="utf-8")
            model = folder
        rows = tmp_path / "rows.jsonl"
        if not rows.exists():
            answers = ["yes", "no", "perhaps, if it does not rain tomorrow"]
            lines = [{"instruction": f"Say {number}", "output": answers[number % 3]} for number in range(40)]
            rows.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        recipe = {
            "base_model": str(model),
            "datasets": [{"path": str(rows), "type": "alpaca"}],
            "output_dir": str(tmp_path / "out"),
            **values,
        }
        file = tmp_path / "recipe.yml"
        file.write_text(json.dumps(recipe), encoding="utf-8")
        return make_plan(load_recipe(file), load_host(), overwrite=True)

    return plan
