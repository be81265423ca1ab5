"""From the recipe's keys to transformers' TrainingArguments."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.state import AcceleratorState
from transformers import TrainingArguments

from core import Plan, UserError
from core.console import say

from .batches import BatchPlan
from .distributed import sharding
from .gpu_kernels import gpu_kernels

MAX_DEFAULT_WARMUP = 100  # steps, and at most a tenth of all
DEFAULT_SAVE_STEPS = 500

# recipe key -> argument, where both mean the same
SAME = {
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "adam_beta1": "adam_beta1",
    "adam_beta2": "adam_beta2",
    "adam_epsilon": "adam_epsilon",
    "max_grad_norm": "max_grad_norm",
    "optim_target_modules": "optim_target_modules",
    "save_total_limit": "save_total_limit",
    "save_only_model": "save_only_model",
    "load_best_model_at_end": "load_best_model_at_end",
    "metric_for_best_model": "metric_for_best_model",
    "greater_is_better": "greater_is_better",
    "dataloader_num_workers": "dataloader_num_workers",
    "dataloader_prefetch_factor": "dataloader_prefetch_factor",
    "dataloader_pin_memory": "dataloader_pin_memory",
    "neftune_noise_alpha": "neftune_noise_alpha",
    "ddp_timeout": "ddp_timeout",
    "ddp_bucket_cap_mb": "ddp_bucket_cap_mb",
    "ddp_broadcast_buffers": "ddp_broadcast_buffers",
}
# the older releases of transformers have the second name alone
_NAMES = ("activation_checkpointing", "gradient_checkpointing")
CHECKPOINTING = next(name for name in _NAMES if name in TrainingArguments.__dataclass_fields__)


def training_arguments(
    plan: Plan, batches: BatchPlan, *, validates: bool, scored: Mapping[str, bool] | None = None
) -> TrainingArguments:
    """The arguments of this run. validates: whether there is validation data. scored: the metrics that are scored by
    generation meanwhile, and whether more of each is better.

    Raises `UserError` for combinations that cannot work here.
    """
    recipe = plan.recipe
    total = total_steps(plan, batches)
    values: dict[str, Any] = {
        "output_dir": str(plan.output_dir),
        "per_device_train_batch_size": batches.micro_batch_size,
        "per_device_eval_batch_size": recipe["eval_batch_size"] or batches.micro_batch_size,
        "gradient_accumulation_steps": batches.accumulation,
        "num_train_epochs": float(recipe["num_epochs"] or 1),
        "max_steps": recipe["max_steps"] or -1,
        "seed": recipe["seed"],
        # muon is ours, see muon.py; transformers then makes no optimizer of its own
        "optim": "adamw_torch" if recipe["optimizer"] == "muon" else recipe["optimizer"] or "adamw_torch_fused",
        "optim_args": _optim_args(recipe["optim_args"]),
        "warmup_steps": warmup_steps(plan, total),
        "use_cpu": not torch.accelerator.is_available(),
        "ddp_find_unused_parameters": bool(recipe["ddp_find_unused_parameters"]),
        "accelerator_config": {"use_configured_state": not recipe["deepspeed"]},
        "report_to": "none",
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
        "remove_unused_columns": False,
        "use_cache": True,  # our forward switches it off; generation between training stages wants it on
        "logging_strategy": "steps",
        "logging_steps": recipe["logging_steps"] or 10,
        "logging_first_step": True,
        **_scheduler(plan),
        **_precision(plan),
        **_checkpointing(plan),
        **_cadence(plan, batches, validates=validates),
        **sharding(plan),
        **gpu_kernels(plan),
        **{argument: recipe[key] for key, argument in SAME.items() if recipe[key] is not None},
        **_tracking(plan),
    }
    chosen = str(values.get("metric_for_best_model") or "").removeprefix("eval_")
    if scored and chosen in scored and recipe["greater_is_better"] is None:
        values["greater_is_better"] = scored[chosen]
    # a trainer made earlier in this process must not decide the precision of this one
    AcceleratorState._reset_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            arguments = TrainingArguments(**values)
    except (ValueError, ImportError) as error:
        raise UserError(
            f"the training keys of the recipe do not go together here: {error}", help="change the keys it names"
        ) from error
    if arguments.n_gpu > 1:
        # one process would split each batch over all devices (DataParallel), slower and with another loss
        say(f"using 1 of {arguments.n_gpu} devices; start with `accelerate launch` to use all")
        arguments._n_gpu = 1
    return arguments


def total_steps(plan: Plan, batches: BatchPlan) -> int:
    """Optimizer steps of the whole run."""
    asked = plan.recipe["max_steps"]
    if asked and asked > 0:
        return int(asked)
    return math.ceil(float(plan.recipe["num_epochs"] or 1) * batches.steps_per_epoch)


def warmup_steps(plan: Plan, total: int) -> float:
    """Warm-up as transformers takes it: steps, or a share of all steps below 1."""
    recipe = plan.recipe
    if "warmup_steps" in recipe:
        return float(recipe["warmup_steps"])
    if "warmup_ratio" in recipe:
        return math.ceil(float(recipe["warmup_ratio"]) * total)
    return min(MAX_DEFAULT_WARMUP, total // 10)


def _optim_args(value: Any) -> str | None:
    """transformers wants `a=1,b=2`; recipes also write a map."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={setting}" for name, setting in value.items())
    return value or None


def _scheduler(plan: Plan) -> dict[str, Any]:
    recipe = plan.recipe
    name = recipe["lr_scheduler"] or "cosine"
    settings = dict(recipe["lr_scheduler_kwargs"] or {})
    if name == "cosine" and recipe["cosine_min_lr_ratio"]:
        name = "cosine_with_min_lr"
        settings["min_lr_rate"] = float(recipe["cosine_min_lr_ratio"])
    return {"lr_scheduler_type": name, "lr_scheduler_kwargs": settings}


def _precision(plan: Plan) -> dict[str, Any]:
    recipe = plan.recipe
    on_device = torch.accelerator.is_available()
    bf16, fp16 = recipe["bf16"], bool(recipe["fp16"])
    if bf16 == "auto":
        bf16 = on_device and not fp16 and _has_bf16()
    if fp16 and not on_device:
        say("warning: fp16: true has no effect here: it needs a GPU; computing in float32 (bf16: true runs on CPU too)")
        fp16 = False
    # "full" means bf16 weights without autocast: the adapter loads them so, and nothing is left to do here
    values: dict[str, Any] = {"bf16": bf16 is True, "fp16": fp16}
    if recipe["tf32"] is not None:
        if torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8:
            values["tf32"] = bool(recipe["tf32"])
        elif recipe["tf32"]:
            say("warning: tf32: true has no effect here: it needs an NVIDIA GPU of the Ampere generation or newer")
    return values


def _has_bf16() -> bool:
    """Whether there is a GPU that computes in bfloat16: older ones imitate it, slower than float32."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def _checkpointing(plan: Plan) -> dict[str, Any]:
    recipe = plan.recipe
    asked = recipe["gradient_checkpointing"]
    if not asked:
        return {}
    settings = {"use_reentrant": False, **(recipe["gradient_checkpointing_kwargs"] or {})}
    if asked in ("offload", "offload_disk"):
        if asked == "offload_disk":
            say("warning: gradient_checkpointing: offload_disk keeps activations in host memory, as offload does")
        if torch.accelerator.is_available():
            settings["offload"] = True
        else:
            say(f"gradient_checkpointing: {asked}: activations stay where they are, in host memory already")
    return {CHECKPOINTING: True, f"{CHECKPOINTING}_kwargs": settings}


def _cadence(plan: Plan, batches: BatchPlan, *, validates: bool) -> dict[str, Any]:
    """When to evaluate and to save."""
    recipe = plan.recipe
    evaluate = _every(plan, batches, "eval", "evals_per_epoch", default="epoch" if validates else "no")
    if recipe["generation_evals_per_epoch"] and validates and not evaluates_at_will(plan):
        evaluate = ("steps", generation_steps(plan, batches))
    if evaluate[0] != "no" and not validates:
        say("warning: nothing to evaluate during training: there is no validation data (val_set_size or test_datasets)")
        evaluate = ("no", None)
    needs_metric = recipe["load_best_model_at_end"] or recipe["early_stopping_patience"]
    if needs_metric and evaluate[0] == "no":
        key = "load_best_model_at_end" if recipe["load_best_model_at_end"] else "early_stopping_patience"
        raise UserError(
            f"{key} needs an evaluation during training", help="set val_set_size, and eval_steps or evals_per_epoch"
        )
    chosen = any(key in recipe for key in ("save_strategy", "save_steps", "saves_per_epoch"))
    if recipe["load_best_model_at_end"] and not chosen:
        save = evaluate  # the best model must have been saved when it was measured
    else:
        save = _every(plan, batches, "save", "saves_per_epoch", default="steps")
        save = (save[0], save[1] or (recipe["save_steps"] or DEFAULT_SAVE_STEPS if save[0] == "steps" else None))
    values: dict[str, Any] = {"eval_strategy": evaluate[0], "save_strategy": save[0]}
    if evaluate[1]:
        values["eval_steps"] = evaluate[1]
    if save[1]:
        values["save_steps"] = save[1]
    if needs_metric or save[0] == "best":
        values.update(metric_for_best_model="eval_loss", greater_is_better=False)
    return values


def evaluates_at_will(plan: Plan) -> bool:
    """Whether the recipe itself says when the validation loss is computed."""
    return any(plan.recipe.values.get(key) for key in ("eval_strategy", "eval_steps", "evals_per_epoch"))


def generation_steps(plan: Plan, batches: BatchPlan) -> int:
    """Optimizer steps between two scorings by generation."""
    return max(1, math.ceil(batches.steps_per_epoch / int(plan.recipe["generation_evals_per_epoch"])))


def _every(
    plan: Plan, batches: BatchPlan, kind: str, per_epoch: str, *, default: str
) -> tuple[str, int | float | None]:
    """(strategy, steps) from `<kind>_strategy`, `<kind>_steps` and the number of times per epoch."""
    recipe = plan.recipe
    # what the recipe itself sets: a default of one key must not outdo a value of another
    strategy, steps, times = (recipe.values.get(key) for key in (f"{kind}_strategy", f"{kind}_steps", per_epoch))
    if strategy in ("no", "epoch", "best", False):
        return strategy or "no", None
    if steps:
        return "steps", steps
    if times:
        return "steps", max(1, math.ceil(batches.steps_per_epoch / times))
    if times == 0 or steps == 0:
        return "no", None
    return strategy or default, None


def _tracking(plan: Plan) -> dict[str, Any]:
    """What the trackers' callbacks read from the arguments, and from nowhere else."""
    recipe = plan.recipe
    values: dict[str, Any] = {}
    for key, argument in (("trackio_project_name", "project"), ("trackio_space_id", "trackio_space_id")):
        if recipe[key]:
            values[argument] = recipe[key]
    for key in ("wandb_name", "mlflow_run_name", "trackio_run_name"):
        if recipe[key]:
            values["run_name"] = recipe[key]
    return values
