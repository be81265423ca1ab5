"""The ways to train that a plan is laid out for: the recipe's own, and full, LoRA and QLoRA beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.check import resolve_defaults
from core.errors import UserError
from core.types import Plan

PACKED = ("load_in_4bit", "load_in_8bit")
# name -> (adapter, what the recipe then says)
USUAL: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "full": ("full", {}),
    "lora": ("lora", {}),
    "qlora": ("qlora", {"load_in_4bit": True}),
}


@dataclass(frozen=True)
class Approach:
    """One way to train. own: whether it is what the recipe asks for. notes: what is assumed beyond the recipe."""

    name: str
    plan: Plan
    own: bool
    notes: tuple[str, ...] = ()


def approaches(plan: Plan) -> list[Approach]:
    """The recipe's own approach first, then the usual ones that it is not."""
    name = _name(plan)
    made = [Approach(name, plan, own=True)]
    if plan.host is None:
        return made
    for other, (adapter, values) in USUAL.items():
        if other == name or adapter not in plan.host.adapters:
            continue
        notes: tuple[str, ...] = ()
        settings: dict[str, Any] = {"adapter": adapter, **values}
        if (
            adapter != "full"
            and plan.adapter.name not in ("lora", "qlora")
            and "lora_target_modules" not in plan.recipe
        ):
            settings["lora_target_linear"] = True
            rank = plan.recipe["lora_r"] or 8
            notes = (f"{other}: lora_target_linear: true and lora_r: {rank} are assumed",)
        made.append(Approach(other, with_values(plan, settings, without=PACKED), own=False, notes=notes))
    return made


def with_values(plan: Plan, settings: Mapping[str, Any], *, without: tuple[str, ...] = ()) -> Plan:
    """`plan` as if its recipe said `settings` too. Raises `UserError` for an adapter that is not there."""
    host = plan.host
    values = {key: value for key, value in plan.recipe.values.items() if key not in without} | dict(settings)
    recipe = replace(plan.recipe, values={key: value for key, value in values.items() if value is not None})
    if host is None:
        return replace(plan, recipe=recipe)
    recipe = resolve_defaults(recipe, host)
    name = recipe["adapter"] or "full"
    if name not in host.adapters:
        raise UserError(f"no adapter called {name!r}", help=f"one of {', '.join(host.adapters)}")
    return replace(plan, recipe=recipe, adapter=host.adapters[name])


def _name(plan: Plan) -> str:
    if plan.adapter.name == "lora" and plan.recipe["load_in_8bit"]:
        return "lora (8-bit base)"
    return plan.adapter.name
