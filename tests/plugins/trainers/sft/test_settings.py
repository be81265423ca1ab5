from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from core import load_fragment
from core.recipe import Recipe
from plugins.trainers.sft.settings import OPTIMIZERS, SCHEDULES, problems


def found(**values: Any) -> list[tuple[tuple[Any, ...], str, str]]:
    recipe = Recipe(path=Path("recipe.yml"), text="", values=values)
    told = [problem for problem in problems(recipe) if not problem.blocks_run]  # whatever is installed here
    return [(problem.key, problem.severity, f"{problem.message}; {problem.help}") for problem in told]


def test_the_table_of_schedules_is_that_of_transformers() -> None:
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

    shared = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch", "kwargs"}
    theirs = {
        str(kind.value): set(inspect.signature(make).parameters) - shared
        for kind, make in TYPE_TO_SCHEDULER_FUNCTION.items()
    }
    assert set(SCHEDULES) == set(theirs) >= set(load_fragment("training")["lr_scheduler"]["enum"])
    assert {name: names for name, names in theirs.items() if not names <= set(SCHEDULES[name])} == {}


def test_every_entry_of_the_table_of_optimizers_is_for_one_that_there_is() -> None:
    optimizers = load_fragment("training")["optimizer"]["enum"]
    assert [start for start in OPTIMIZERS if not any(name.startswith(start) for name in optimizers)] == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"lr_scheduler": "cosine", "lr_scheduler_kwargs": {"num_cycles": 2}}, None),
        ({"lr_scheduler_kwargs": {"num_cycle": 2}}, ("error", "did you mean 'num_cycles'?")),
        ({"lr_scheduler": "linear", "lr_scheduler_kwargs": {"power": 2}}, ("error", "it takes none")),
        ({"cosine_min_lr_ratio": 0.1, "lr_scheduler_kwargs": {"min_lr": 0.0}}, None),
        ({"optimizer": "sgd", "optim_args": {"momentum": 0.9}}, None),
        ({"optimizer": "sgd", "optim_args": "momentun=0.9"}, ("warning", "did you mean 'momentum'?")),
        ({"optimizer": "galore_adamw", "optim_args": "rank=64, scale=0.1"}, None),
        ({"optimizer": "adamw_torch_fused", "optim_args": {"beta1": 0.9}}, ("warning", "set the key adam_beta1")),
        ({"optimizer": "adamw_torch", "optim_args": {"x": 1}}, ("warning", "has no effect with optimizer")),
    ],
)
def test_a_name_nobody_reads_is_told(values: dict[str, Any], expected: tuple[str, str] | None) -> None:
    said = found(**values)
    assert len(said) == (0 if expected is None else 1)
    if expected is not None:
        assert said[0][1] == expected[0]
        assert expected[1] in said[0][2]


def test_a_missing_package_of_an_optimizer_is_told_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins.trainers.sft.settings.find_spec", lambda name: None)
    lacking = {}
    for optimizer in load_fragment("training")["optimizer"]["enum"]:
        recipe = Recipe(path=Path("recipe.yml"), text="", values={"optimizer": optimizer})
        lacking[optimizer] = [problem.help for problem in problems(recipe) if problem.blocks_run]
    none = {name for name, helps in lacking.items() if not helps}
    assert none == {
        *("adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused"),
        *("adafactor", "sgd", "adagrad", "rmsprop", "muon"),
    }
    assert "pip install bitsandbytes" in str(lacking["paged_adamw_8bit"])
    assert "pip install torchao" in str(lacking["adamw_torch_8bit"])
