"""Rules across the training keys of a recipe. Light: checked before anything is loaded."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from core import Problem
from core.check.paths import resolve_input_path
from core.packing import goes_by_lengths

from .gpu_kernels import LIGER_KERNELS
from .scoring_rules import scoring_problems
from .settings import problems as setting_problems
from .shards import asks_for_fsdp
from .shards import problems as sharding_problems

if TYPE_CHECKING:
    from core import Recipe

# settings of what another key switches on
WITHOUT = {
    "loss_watchdog_patience": "loss_watchdog_threshold",
    "torch_compile_backend": "torch_compile",
    "torch_compile_mode": "torch_compile",
    "gradient_checkpointing_kwargs": "gradient_checkpointing",
}


def problems(recipe: Recipe) -> list[Problem]:
    """Everything wrong with how the training keys go together."""
    return [
        *_validation(recipe),
        *_schedule(recipe),
        *_cadence(recipe),
        *_processes(recipe),
        *sharding_problems(recipe),
        *setting_problems(recipe),
        *_kernels(recipe),
        *_attention(recipe),
        *scoring_problems(recipe),
    ]


def _validation(recipe: Recipe) -> list[Problem]:
    """Keys that watch the validation loss need one."""
    found = []
    validates = bool(recipe["val_set_size"]) or bool(recipe["test_datasets"])
    for key in ("early_stopping_patience", "load_best_model_at_end"):
        if not recipe[key]:
            continue
        if not validates:
            help = "set val_set_size or test_datasets"
            found.append(Problem(f"{key} needs validation data, and there is none", key=(key,), help=help))
        elif recipe["eval_strategy"] == "no":
            found.append(Problem(f"{key} needs an evaluation during training", key=("eval_strategy",), at="value"))
    if recipe["lr_scheduler"] in ("reduce_lr_on_plateau", "greedy") and not validates:
        message = (
            f"lr_scheduler {recipe['lr_scheduler']!r} follows the validation loss, and there is no validation data"
        )
        found.append(Problem(message, key=("lr_scheduler",), at="value", help="set val_set_size or test_datasets"))
    return found


def _schedule(recipe: Recipe) -> list[Problem]:
    found = []
    if "warmup_steps" in recipe and "warmup_ratio" in recipe:
        message = "warmup_steps and warmup_ratio are both set"
        found.append(Problem(message, key=("warmup_ratio",), help="keep one of them"))
    if "cosine_min_lr_ratio" in recipe and not str(recipe["lr_scheduler"] or "cosine").startswith("cosine"):
        message = f"cosine_min_lr_ratio has no effect with lr_scheduler {recipe['lr_scheduler']!r}"
        found.append(Problem(message, key=("cosine_min_lr_ratio",), severity="warning"))
    if recipe["fp16"] and recipe["bf16"] in (True, "full"):
        found.append(Problem("fp16 and bf16 are both set", key=("fp16",), help="keep one of them; bf16 where it works"))
    for key, without in WITHOUT.items():
        if recipe.values.get(key) and not recipe[without]:
            message = f"{key} has no effect without {without}"
            found.append(Problem(message, key=(key,), severity="warning"))
    return found


def _cadence(recipe: Recipe) -> list[Problem]:
    found = []
    for kind, per_epoch in (("eval", "evals_per_epoch"), ("save", "saves_per_epoch")):
        steps, strategy = f"{kind}_steps", f"{kind}_strategy"
        if recipe.values.get(steps) and recipe.values.get(per_epoch):
            message = f"{steps} and {per_epoch} are both set"
            found.append(Problem(message, key=(per_epoch,), help="keep one of them"))
        for key in (steps, per_epoch):
            if recipe.values.get(key) and recipe.values.get(strategy) in ("no", "epoch"):
                message = f"{key} and {strategy}: {recipe[strategy]} say different things"
                found.append(Problem(message, key=(key,), help=f"remove one of them, or set {strategy}: steps"))
    return found


def _processes(recipe: Recipe) -> list[Problem]:
    given = recipe["deepspeed"]
    if not given:
        return []
    if asks_for_fsdp(recipe):
        return [Problem("deepspeed and fsdp are both set", key=("deepspeed",), help="keep one of them")]
    found = []
    if isinstance(given, str) and not Path(resolve_input_path(given, recipe.folder_of(("deepspeed",)))).is_file():
        found.append(
            Problem(
                f"no such file: {given!r}",
                key=("deepspeed",),
                at="value",
                severity="warning",
                help="put it there before the run, or write the configuration out as a map",
                blocks_run=True,
            )
        )
    if find_spec("deepspeed") is None:
        found.append(
            Problem(
                "deepspeed needs the package 'deepspeed'",
                key=("deepspeed",),
                severity="warning",
                help="pip install deepspeed, or shard the model with fsdp instead",
                blocks_run=True,
            )
        )
    return found


def _kernels(recipe: Recipe) -> list[Problem]:
    """Kernels of Liger without the package."""
    asked = [key for key in LIGER_KERNELS if recipe[key]]
    if not asked or find_spec("liger_kernel") is not None:
        return []
    message = f"{asked[0]!r} has no effect here: the package liger-kernel is not installed"
    help = "pip install liger-kernel; it changes speed and memory, not what is learnt"
    return [Problem(message, key=(asked[0],), severity="warning", help=help)]


def _attention(recipe: Recipe) -> list[Problem]:
    """Shared prefixes that the attention cannot share."""
    asked = recipe["attn_implementation"]
    if recipe["share_prefixes"] is not True or not goes_by_lengths(asked):
        return []
    message = f"share_prefixes: true computes with sdpa: {asked!r} cannot share a prefix"
    help = "leave one of the two out"
    return [Problem(message, key=("share_prefixes",), severity="warning", help=help)]
