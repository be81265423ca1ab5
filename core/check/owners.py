"""Which plugins take part in the run that a recipe describes; keys of the others have no effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from core.check.names import find_format
from core.host import Host
from core.recipe import Recipe

# hooks whose components a recipe picks; a plugin that offers none of them takes part in every run
PICKED = ("adapters", "trainers", "dataset_formats", "evaluators")


def chosen(recipe: Recipe, host: Host) -> set[tuple[str, str]]:
    """The components this recipe picks, as (hook, name), whether they exist or not."""
    values = recipe.values
    picked = {("adapters", _text(values.get("adapter"), "full")), ("trainers", _text(values.get("trainer"), "sft"))}
    evaluation = values.get("evaluation")
    scored: Mapping[str, Any] = evaluation if isinstance(evaluation, Mapping) else {}
    for entry in (*_maps(values.get("datasets")), *_maps(values.get("test_datasets")), *_maps(scored.get("datasets"))):
        found = find_format(entry["type"], host) if isinstance(entry.get("type"), str) else None
        if found:
            picked.add(("dataset_formats", found.name))
    metrics = list(_maps(scored.get("metrics"))) or _default_metrics(host)
    picked |= {("evaluators", entry["type"]) for entry in metrics if isinstance(entry.get("type"), str)}
    return picked


def taking_part(recipe: Recipe, host: Host) -> set[str]:
    """The plugins that take part: the owners of the components picked, and those that are not picked by name.

    Where a name picks nothing that is there, all plugins that offer its kind count: the name is what is wrong.
    """
    picked = chosen(recipe, host)
    unknown = {hook for hook, name in picked if (hook, name) not in host.component_owners}
    owners = {
        owner for component, owner in host.component_owners.items() if component in picked or component[0] in unknown
    }
    for plugin in host.plugins:
        offers_picked = any(plugin.offers.get(hook) for hook in PICKED)
        if not offers_picked or plugin.offers.get("loggers"):
            owners.add(plugin.name)
    return owners


def used_keys(recipe: Recipe, host: Host) -> set[str]:
    """Keys of other owners that the adapter and the trainer of this run read too."""
    adapter = host.adapters.get(_text(recipe.values.get("adapter"), "full"))
    trainer = host.trainers.get(_text(recipe.values.get("trainer"), "sft"))
    return {key for component in (adapter, trainer) if component for key in component.uses}


def _default_metrics(host: Host) -> list[Any]:
    schema = host.recipe_keys.get("evaluation", {}).get("properties", {}).get("metrics", {})
    return list(schema.get("default", ()))


def _maps(entries: Any) -> Iterable[Mapping[str, Any]]:
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def _text(value: Any, default: str) -> str:
    return value if isinstance(value, str) else default
