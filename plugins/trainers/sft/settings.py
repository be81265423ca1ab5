"""The names inside `optim_args` and `lr_scheduler_kwargs`: which the chosen optimizer and schedule read. Light."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from core import Problem
from core.check.names import did_you_mean

if TYPE_CHECKING:
    from core import Recipe

BITSANDBYTES = ("bitsandbytes", "bitsandbytes")
_PLATEAU = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps")
SCHEDULES: Mapping[str, tuple[str, ...]] = {
    "linear": (),
    "constant": (),
    "constant_with_warmup": (),
    "cosine": ("num_cycles",),
    "cosine_with_restarts": ("num_cycles",),
    "polynomial": ("lr_end", "power"),
    "inverse_sqrt": ("timescale",),
    "reduce_lr_on_plateau": _PLATEAU,
    "greedy": (*_PLATEAU, "max_lr", "warmup", "verbose", "smooth", "window_size", "reset_start"),
    "cosine_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"),
    "warmup_stable_decay": (
        *("num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles"),
    ),
}
_LOW_RANK = ("rank", "update_proj_gap", "scale", "proj_type")
# the beginning of an optimizer's name -> the arguments it reads, the first that fits
OPTIMIZERS: Mapping[str, tuple[str, ...]] = {
    "adamw_anyprecision": ("use_kahan_summation", "momentum_dtype", "variance_dtype", "compensation_buffer_dtype"),
    "adamw_torch_4bit": ("block_size", "bf16_stochastic_round"),
    "adamw_torch_8bit": ("block_size", "bf16_stochastic_round"),
    "ademamix": ("beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3"),
    "paged_ademamix": ("beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3"),
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
    "adagrad": ("lr_decay", "weight_decay", "eps"),
    "rmsprop": ("momentum", "alpha", "eps", "weight_decay", "centered"),
    "galore": _LOW_RANK,
    "apollo": (*_LOW_RANK, "proj", "scale_type"),
    "grokadamw": ("alpha_init", "lamb", "gamma", "grokking_signal_decay_rate", "gradient_clipping"),
    "schedule_free": ("weight_lr_power", "r"),
    "stable_adamw": ("decouple_lr", "max_lr", "kahan_sum"),
}
# the beginning of an optimizer's name -> the package it comes from, the first that fits: (module, what pip calls it)
PACKAGES: Mapping[str, tuple[str, str] | None] = {
    "adamw_torch_4bit": ("torchao", "torchao"),
    "adamw_torch_8bit": ("torchao", "torchao"),
    "adamw_anyprecision": ("torchdistx", "torchdistx"),
    "adamw_torch": None,
    "galore": ("galore_torch", "galore-torch"),
    "apollo": ("apollo_torch", "apollo-torch"),
    "lomo": ("lomo_optim", "lomo-optim"),
    "adalomo": ("lomo_optim", "lomo-optim"),
    "grokadamw": ("grokadamw", "grokadamw"),
    "schedule_free": ("schedulefree", "schedulefree"),
    "stable_adamw": ("optimi", "torch-optimi"),
    **dict.fromkeys(("adamw_bnb", "adamw_8bit", "ademamix", "lion", "paged", "rmsprop_bnb"), BITSANDBYTES),
}
# what has a key of its own
_OWN_KEYS = {"beta1": "adam_beta1", "beta2": "adam_beta2", "eps": "adam_epsilon", "weight_decay": "weight_decay"}


def problems(recipe: Recipe) -> Iterator[Problem]:
    """A problem for every name that the optimizer or the schedule of this run does not read."""
    schedule = str(recipe["lr_scheduler"] or "cosine")
    if schedule == "cosine" and recipe["cosine_min_lr_ratio"]:
        schedule = "cosine_with_min_lr"
    for name in recipe["lr_scheduler_kwargs"] or {}:
        known = SCHEDULES.get(schedule)
        if known is not None and name not in known:
            listed = f"it takes: {', '.join(known)}" if known else "it takes none"
            message = f"lr_scheduler {schedule!r} has no setting {name!r}"
            yield Problem(message, key=("lr_scheduler_kwargs", name), help=did_you_mean(name, known) or listed)
    optimizer = str(recipe["optimizer"] or "")
    yield from _lacking(optimizer)
    read = next((names for start, names in OPTIMIZERS.items() if optimizer.startswith(start)), ())
    given = recipe["optim_args"]
    for name in _names(given):
        if name not in read:
            key = ("optim_args", name) if isinstance(given, Mapping) else ("optim_args",)
            message = f"the setting {name!r} has no effect with optimizer {optimizer!r}"
            yield Problem(message, key=key, severity="warning", help=_advice(name, read))


def _lacking(optimizer: str) -> Iterator[Problem]:
    """The package of the optimizer, where it is not installed."""
    package = next((package for start, package in PACKAGES.items() if optimizer.startswith(start)), None)
    if package is not None and find_spec(package[0]) is None:
        message = f"optimizer {optimizer!r} needs the package {package[0]!r}, which is not installed"
        help = f"pip install {package[1]}, or choose another, such as adamw_torch_fused"
        yield Problem(message, key=("optimizer",), at="value", severity="warning", help=help, blocks_run=True)


def _names(given: Any) -> list[str]:
    if isinstance(given, Mapping):
        return [str(name) for name in given]
    return [part.partition("=")[0].strip() for part in str(given or "").split(",") if part.strip()]


def _advice(name: str, read: tuple[str, ...]) -> str:
    near = did_you_mean(name, read)
    if near is None and name in _OWN_KEYS:
        return f"set the key {_OWN_KEYS[name]} of the recipe"
    return near or (f"it reads: {', '.join(read)}" if read else "it reads none: its settings are keys of the recipe")
