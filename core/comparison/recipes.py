"""What differs between the recipes of finished runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.check.schema import fit_schema, schema_at
from core.check.wording import dotted
from core.comparison.runs import FinishedRun
from core.host import Host
from core.types import KeyPath

# where a run writes to, and what it is held against, changes nothing in its model
NO_DIFFERENCE = (("output_dir",), ("evaluation", "compare"), ("evaluation", "gates"))


def recipe_differences(runs: Sequence[FinishedRun], host: Host) -> dict[str, list[Any]]:
    """Every key that does not mean the same in all recipes, with its value in each. Files are what their paths lead to,
    from the folder of each recipe: a recipe and its lock name the same file by different paths."""
    flat = [_values_of(run) for run in runs]
    meant = [_meant(run, values, host) for run, values in zip(runs, flat, strict=True)]
    keys = [key for key in dict.fromkeys(key for values in flat for key in values) if not _apart(key)]
    differing = [key for key in keys if any(values.get(key) != meant[0].get(key) for values in meant)]
    return {dotted(key): [values.get(key) for values in flat] for key in differing}


def metric_entries(run: FinishedRun) -> dict[str, dict[str, Any]]:
    """The entries of `evaluation.metrics` by the names of the metrics."""
    from core.check.columns import metric_names

    recipe = run.values["recipe"]
    written = (recipe["values"].get("evaluation") or {}).get("metrics")
    entries = written or (recipe["defaults"].get("evaluation") or {}).get("metrics") or []
    return dict(zip(metric_names(entries), entries, strict=True))


def meant_options(run: FinishedRun, entry: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """The options of a metric with those it has by default, paths followed: what is to be equal in all runs."""
    evaluator = host.evaluators.get(entry.get("type", ""))
    schema: Mapping[str, Any] = (evaluator.options_schema if evaluator else None) or {}
    defaults = {key: one["default"] for key, one in schema.items() if "default" in one}
    paths = {key for key, one in schema.items() if one.get("x-path") is True}
    folder = _folder(run)
    return {
        key: _followed(value, folder) if key in paths and isinstance(value, str) else value
        for key, value in {**defaults, **entry}.items()
    }


def _values_of(run: FinishedRun) -> dict[KeyPath, Any]:
    """The recipe's values by their places, defaults included."""
    recipe = run.values["recipe"]
    return dict(_leaves(_with_defaults(recipe["defaults"], recipe["values"]), ()))


def _with_defaults(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**defaults, **values}
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            merged[key] = _with_defaults(default, value)
    return merged


def _leaves(value: Any, at: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _leaves(entry, (*at, key))
    elif isinstance(value, list) and any(isinstance(entry, (Mapping, list)) for entry in value):
        for index, entry in enumerate(value):
            yield from _leaves(entry, (*at, index))
    else:
        yield at, value


def _meant(run: FinishedRun, values: Mapping[KeyPath, Any], host: Host) -> dict[KeyPath, Any]:
    """The values, paths of input files followed."""
    schema, folder = fit_schema(host, run.values["recipe"]["values"]), _folder(run)
    is_path = {key for key in values if schema_at(schema, key).get("x-path") is True}
    return {
        key: _followed(value, folder) if key in is_path and isinstance(value, str) else value
        for key, value in values.items()
    }


def _folder(run: FinishedRun) -> Path:
    return Path(run.values["recipe"]["path"]).parent


def _followed(text: str, folder: Path) -> str:
    if "://" in text:
        return text
    path = Path(text).expanduser()
    places = [os.path.abspath(start / path) for start in (folder, Path())]
    # what is in neither place may be a name on the hub, which is the same from everywhere
    return next((place for place in places if os.path.exists(place)), text)


def _apart(key: KeyPath) -> bool:
    return any(key[: len(start)] == start for start in NO_DIFFERENCE)
