"""The defaults that a run takes because its recipe says nothing, for the user to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.check.owners import taking_part, used_keys
from core.host import Host
from core.recipe import Recipe


def defaults_taken(recipe: Recipe, host: Host) -> str:
    """One line with every default that switches something on or sets a size, of the plugins that take part.

    recipe: with its defaults resolved. What has keys of its own, such as `evaluation`, is told where it acts.
    """
    owners, used = taking_part(recipe, host), used_keys(recipe, host)
    replaced = {
        name
        for key, schema in host.recipe_keys.items()
        # the strategy called steps leaves it to the number of steps
        if recipe.values.get(key) not in (None, False, "steps")
        for name in schema.get("x-instead-of", ())
    }
    taken = [
        f"{key} {_shown(value)}"
        for key, value in recipe.defaults.items()
        if key not in recipe.values
        and key not in replaced
        and all(recipe[other] == wanted for other, wanted in host.recipe_keys[key].get("x-only-with", {}).items())
        and value not in (None, False, "", [])
        and not isinstance(value, Mapping)
        and (host.key_owners[key] in owners or key in used)
    ]
    return f"defaults taken: {', '.join(taken)}" if taken else ""


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
