"""The built-in trainer: supervised fine-tuning on transformers' Trainer, with the loss on trained tokens alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core import Data, Plan, Problem, Trainer, Training, Workload, hookimpl, load_fragment

if TYPE_CHECKING:
    from core import Recipe


def expected_work(plan: Plan, model: Any, data: Data, ranks: int) -> Workload:
    """What training `plan` would compute, for the planner."""
    from .workload import sft_workload

    return sft_workload(plan, model, data, ranks)


def prepare(plan: Plan, model: Any, tokenizer: Any, data: Data) -> Training:
    """Make the training of `plan` ready on every rank."""
    from .training import prepare_training

    return prepare_training(plan, model, tokenizer, data)


@hookimpl
def recipe_keys() -> dict[str, Any]:
    """The keys of `schemas/sft.json`."""
    return load_fragment("sft")


@hookimpl
def trainers() -> list[Trainer]:
    """The trainer `sft`."""
    description = "supervised fine-tuning: the mean loss over trained tokens"
    return [Trainer("sft", prepare, description=description, workload=expected_work, streams=True)]


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """Rules across the keys of training that need no data to be checked."""
    if (recipe["trainer"] or "sft") != "sft":
        return []
    from .rules import problems

    return problems(recipe)
