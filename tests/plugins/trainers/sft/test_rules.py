from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.recipe import Recipe
from plugins.trainers.sft import check_recipe


def found(**values: Any) -> list[tuple[str, str]]:
    problems = check_recipe(Recipe(path=Path("recipe.yml"), text="", values=values))
    assert all(problem.message[0].islower() or problem.message[0].isdigit() for problem in problems)
    assert all(problem.help or problem.severity == "warning" or problem.at == "value" for problem in problems)
    return [(str(problem.key[0]), problem.severity) for problem in problems]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        ({"early_stopping_patience": 2}, [("early_stopping_patience", "error")]),
        ({"early_stopping_patience": 2, "val_set_size": 0.1}, []),
        ({"load_best_model_at_end": True}, [("load_best_model_at_end", "error")]),
        ({"load_best_model_at_end": True, "val_set_size": 4, "eval_strategy": "no"}, [("eval_strategy", "error")]),
        ({"lr_scheduler": "reduce_lr_on_plateau"}, [("lr_scheduler", "error")]),
        ({"warmup_steps": 3, "warmup_ratio": 0.1}, [("warmup_ratio", "error")]),
        ({"cosine_min_lr_ratio": 0.1, "lr_scheduler": "linear"}, [("cosine_min_lr_ratio", "warning")]),
        ({"cosine_min_lr_ratio": 0.1}, []),
        ({"fp16": True, "bf16": True}, [("fp16", "error")]),
        ({"fp16": True, "bf16": "auto"}, []),
        ({"save_steps": 3, "saves_per_epoch": 2}, [("saves_per_epoch", "error")]),
        ({"eval_steps": 3, "eval_strategy": "epoch"}, [("eval_steps", "error")]),
        ({"evals_per_epoch": 0, "eval_strategy": "no"}, []),
        ({"loss_watchdog_patience": 3}, [("loss_watchdog_patience", "warning")]),
        ({"torch_compile_mode": "default"}, [("torch_compile_mode", "warning")]),
        ({"torch_compile_mode": "default", "torch_compile": "auto"}, []),
        ({"gradient_checkpointing_kwargs": {"use_reentrant": False}}, [("gradient_checkpointing_kwargs", "warning")]),
        ({"gradient_checkpointing_kwargs": {"use_reentrant": False}, "gradient_checkpointing": True}, []),
        ({"deepspeed": "zero3.json", "fsdp": ["full_shard"]}, [("deepspeed", "error")]),
        ({"early_stopping_patience": 2, "trainer": "other"}, []),
        ({"share_prefixes": True, "attn_implementation": "flash_attention_2"}, [("share_prefixes", "warning")]),
        ({"share_prefixes": "auto", "attn_implementation": "flash_attention_2"}, []),
        ({"share_prefixes": True, "attn_implementation": "flex_attention"}, []),
    ],
)
def test_rules(values: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert found(**values) == expected
