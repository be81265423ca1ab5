"""How the processes of a run share the model: FSDP and DeepSpeed, as the recipe and the launcher say it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from core import Plan, UserError
from core.check.paths import resolve_input_path
from core.console import say

from .shards import asks_for_fsdp, fsdp_settings

LAUNCHED_AS = {"fsdp": "ACCELERATE_USE_FSDP", "deepspeed": "ACCELERATE_USE_DEEPSPEED"}


def sharding(plan: Plan) -> dict[str, Any]:
    """The training arguments of FSDP or DeepSpeed.

    Raises `UserError` where the launcher was configured for something else than the recipe asks for.
    """
    recipe = plan.recipe
    asked = "deepspeed" if recipe["deepspeed"] else "fsdp" if asks_for_fsdp(recipe) else None
    settings = fsdp_settings(recipe)
    _refuse_contradiction(asked, settings, os.environ)
    if asked == "deepspeed":
        return {"deepspeed": deepspeed_settings(plan)}
    if asked is None:
        return {}
    if not torch.accelerator.is_available():
        say("warning: fsdp has no effect on CPU: every process keeps the whole model")
        return {}
    if settings.get("version") == 1 and "reshard_after_forward" in settings:
        # accelerate asks for the strategy of version 1 nowhere else
        os.environ["FSDP_SHARDING_STRATEGY"] = settings["reshard_after_forward"].upper()
    return {"fsdp": True, "fsdp_config": settings}


def deepspeed_settings(plan: Plan) -> str | dict[str, Any]:
    """The DeepSpeed configuration: as the recipe holds it, or the absolute path of the file it names."""
    given = plan.recipe["deepspeed"]
    if isinstance(given, Mapping):
        return dict(given)
    path = resolve_input_path(given, plan.recipe.folder_of(("deepspeed",)))
    if not Path(path).is_file():
        raise UserError(f"no DeepSpeed configuration at {given!r}", help="name the JSON file, or write it out as a map")
    return path


def _refuse_contradiction(asked: str | None, settings: Mapping[str, Any], launcher: Mapping[str, str]) -> None:
    """The launcher tells the processes what it was configured for through the environment."""
    configured = next((name for name, flag in LAUNCHED_AS.items() if launcher.get(flag, "").lower() == "true"), None)
    if configured is None:
        return
    if asked is None:
        say(f"the launcher's configuration asks for {configured}, the recipe for neither fsdp nor deepspeed: using it")
    elif asked != configured:
        raise UserError(
            f"the recipe asks for {asked}, and the launcher was configured for {configured}",
            help=f"start with a launcher configuration that leaves {configured} out, or take {asked} out of the recipe",
        )
    elif asked == "fsdp":
        theirs, ours = launcher.get("FSDP_VERSION"), settings.get("version")
        if theirs and ours and str(theirs) != str(ours):
            raise UserError(
                f"the recipe asks for fsdp_version {ours}, and the launcher was configured for {theirs}",
                help="leave fsdp_version out of one of the two, or make them the same",
            )
