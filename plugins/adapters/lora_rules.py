"""Rules across the keys of a LoRA recipe; light, as `check` needs them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

from core import Problem

if TYPE_CHECKING:
    from core import Recipe

# Starts that take the first update out of the base weights, which then are no longer the base's.
MOVES_THE_BASE = ("pissa", "olora")
REFUSED_STARTS = {
    "loftq": "it trains on rounded base weights, and such an adapter does not fit the untouched base",
    "eva": "it needs a pass over the data before training",
    "corda": "it needs a pass over the data before training",
}


def lora_problems(recipe: Recipe) -> list[Problem]:
    """Every contradiction between the keys of a recipe with `adapter: lora` or `qlora`."""
    return [*_quantisation(recipe), *_package(recipe), *_targets(recipe), *_start(recipe)]


def _quantisation(recipe: Recipe) -> list[Problem]:
    problems = []
    if recipe["adapter"] == "qlora":
        if "load_in_4bit" in recipe and not recipe["load_in_4bit"]:
            problems.append(
                Problem(
                    "adapter qlora trains on a base in 4 bits, but load_in_4bit is false",
                    key=("load_in_4bit",),
                    at="value",
                    help="remove load_in_4bit, or set `adapter: lora`",
                )
            )
        if recipe["load_in_8bit"]:
            problems.append(
                Problem(
                    "adapter qlora trains on a base in 4 bits, but load_in_8bit is true",
                    key=("load_in_8bit",),
                    at="value",
                    help="remove load_in_8bit, or set `adapter: lora` for 8 bits",
                )
            )
        return problems
    if recipe["load_in_4bit"]:
        problems.append(
            Problem(
                "load_in_4bit with adapter lora: LoRA on 4 bits is called qlora",
                key=("load_in_4bit",),
                at="value",
                help="set `adapter: qlora`, or remove load_in_4bit",
            )
        )
    if recipe["bnb_config_kwargs"] and not recipe["load_in_8bit"] and not recipe["load_in_4bit"]:
        problems.append(
            Problem(
                "bnb_config_kwargs has no effect: nothing is quantised",
                key=("bnb_config_kwargs",),
                help="set `adapter: qlora` or `load_in_8bit: true`, or remove it",
                severity="warning",
            )
        )
    return problems


def _package(recipe: Recipe) -> list[Problem]:
    """bitsandbytes, where the base is to be packed and it is not installed."""
    key = next((key for key in ("load_in_4bit", "load_in_8bit") if recipe[key]), None)
    if (key is None and recipe["adapter"] != "qlora") or find_spec("bitsandbytes") is not None:
        return []
    key = key if key is not None and key in recipe else "adapter"
    message = f"{key} needs the package bitsandbytes, which is not installed"
    help = "pip install 'tunesmith[qlora]'"
    return [Problem(message, key=(key,), severity="warning", help=help, blocks_run=True)]


def _targets(recipe: Recipe) -> list[Problem]:
    problems = []
    targets = recipe["lora_target_modules"]
    if isinstance(targets, str):
        if recipe["lora_target_linear"]:
            problems.append(
                Problem(
                    "lora_target_linear cannot be joined with a regular expression in lora_target_modules",
                    key=("lora_target_linear",),
                    help="remove one of the two, or give lora_target_modules as a list",
                )
            )
        try:
            re.compile(targets)
        except re.error as error:
            problems.append(
                Problem(
                    f"{targets!r} is no regular expression: {error}",
                    key=("lora_target_modules",),
                    at="value",
                    help="to name layers literally, give a list: [q_proj, v_proj]",
                )
            )
    if recipe["lora_target_parameters"] and recipe["lora_dropout"]:
        problems.append(
            Problem(
                f"lora_target_parameters needs lora_dropout 0, not {recipe['lora_dropout']}",
                key=("lora_target_parameters",),
                help="set `lora_dropout: 0`",
            )
        )
    return problems


def _start(recipe: Recipe) -> list[Problem]:
    start = str(recipe["peft_init_lora_weights"])
    refused = next((reason for name, reason in REFUSED_STARTS.items() if start == name), None)
    if refused is None and start.startswith(MOVES_THE_BASE):
        if recipe["adapter"] == "qlora" or recipe["load_in_8bit"]:
            refused = "it takes the update out of the base weights, which are packed here"
        elif recipe["peft_use_dora"]:
            refused = "with DoRA it cannot be saved as an adapter for the untouched base"
        elif recipe["lora_target_parameters"]:
            refused = "it has no form for bare parameters"
    if refused is None:
        return []
    return [
        Problem(
            f"peft_init_lora_weights {start!r} is not offered here: {refused}",
            key=("peft_init_lora_weights",),
            at="value",
            help="use true, gaussian or orthogonal",
        )
    ]
