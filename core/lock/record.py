"""The content of a lock: the resolved recipe, and what a run of it read and ran on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.check.wording import dotted
from core.lock.environment import foreign_plugins, hardware, packages_taking_part, software
from core.lock.hashes import text_hash
from core.lock.inputs import inputs
from core.secrets import masked, without_secrets
from core.sharing.files import exists
from core.sharing.variables import texts_in
from core.types import KeyPath, Plan

if TYPE_CHECKING:
    from core.types import Tokenizer

FORMAT_VERSION = 1


def record(plan: Plan, tokenizer: Tokenizer) -> dict[str, Any]:
    """Everything but the packages, which are known only when training starts. Called on the main process."""
    read = inputs(plan, tokenizer, input_paths(plan))
    seed = plan.recipe["seed"]
    return {
        "lock_version": FORMAT_VERSION,
        "recipe": locked_values(plan, read),
        "defaults": without_secrets(_effective_defaults(plan)),
        "seed": seed if seed is not None else 42,
        "trust_remote_code": plan.trust_remote_code,
        **read,
        "extends": dict(_bases(plan)),
        "hardware": hardware(),
        **software(plan),
    }


def with_packages(values: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The record with the versions of all packages that take part."""
    apart = {"tunesmith", *(plugin.distribution for plugin in foreign_plugins(plan))}
    packages = {name: number for name, number in packages_taking_part().items() if name not in apart}
    return {**values, "packages": packages}


def locked_values(plan: Plan, read: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's values as they can be run again from the lock: variables as written, secrets masked, relative paths
    from the lock's folder, and what comes from the hub at the commit that was read."""
    values = plan.recipe.written_values()
    for path, text in input_paths(plan).items():
        _put(values, path, _from_lock(plan, path, text))
    if commit := read["base_model"].get("commit"):
        values["revision_of_model"] = commit
    for dataset in (*plan.datasets, *plan.validation, *plan.evaluation.datasets):
        if commit := read["data"][dotted(dataset.key)].get("commit"):
            _put(values, (*dataset.key, "revision"), commit)
    masked: dict[str, Any] = without_secrets(values)
    return masked


def _effective_defaults(plan: Plan) -> dict[str, Any]:
    """The defaults of keys that the recipe leaves out, and of maps, which it may set in part."""
    return {
        key: value
        for key, value in plan.recipe.defaults.items()
        if key not in plan.recipe.values or isinstance(value, Mapping)
    }


def input_paths(plan: Plan) -> dict[KeyPath, str]:
    """The values that name input files, by their place, with variables replaced."""
    from core.check.schema import fit_schema, schema_at
    from core.host import load_host

    schema = fit_schema(plan.host or load_host(), plan.recipe.values)
    texts = texts_in(plan.recipe.values)
    return {path: text for path, text in texts if schema_at(schema, path).get("x-path") is True}


def _from_lock(plan: Plan, path: KeyPath, text: str) -> str:
    """The text at `path` as it has to be written in the lock to mean the same file."""
    written = str(plan.recipe.written.get(path, text))
    if "://" in text or text.startswith("~") or Path(text).is_absolute():
        return written
    for folder in (plan.recipe.folder_of(path), Path()):
        if exists(folder / text):
            return os.path.join(os.path.relpath(folder, plan.output_dir), written)
    return written


def _bases(plan: Plan) -> Iterator[tuple[str, str]]:
    """The files that the recipe extends, with their hashes; local ones by their path from the lock's folder."""
    for source in plan.recipe.sources.values():
        if source.chain:
            local = source.address is None
            yield (
                os.path.relpath(source.file, plan.output_dir) if local else masked(source.file),
                text_hash(source.text),
            )


def _put(values: Any, path: KeyPath, value: Any) -> None:
    for part in path[:-1]:
        values = values[part]
    values[path[-1]] = value
