"""A recipe with every default taken, each value with where it came from: what `show` prints and `diff` compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.check import item_options, resolve_defaults
from core.check.owners import taking_part, used_keys
from core.check.paths import resolve_input_path
from core.check.schema import ITEM_LISTS, find_component, fit_schema, schema_at
from core.host import Host
from core.overrides import COMMAND_LINE
from core.recipe import Recipe
from core.secrets import masked, names_a_secret, without_secrets
from core.types import KeyPath, Schema

# which format or metric reads a kind of list entry, by the host's table
_HOOKS = {"formats": "dataset_formats", "evaluators": "evaluators"}
# what a recipe says about itself, not about the run
ABOUT_RECIPES = ("requires", "strict", "plugins")


@dataclass(frozen=True)
class Leaf:
    """One value that is no map or list with anything in it.

    shown: as outputs may hold it: `${NAME}` as written, secrets masked. effect: what it comes to, the same for two
    recipes only if they mean the same: variables replaced, paths whole. origin: `file:line`, `--set` or whose default.
    """

    shown: Any
    effect: Any
    origin: str


def resolved(recipe: Recipe, host: Host) -> dict[str, Any]:
    """Maps and lists as in the recipe with its defaults, with a `Leaf` for each value. The recipe must be valid."""
    full = resolve_defaults(recipe, host)
    schema = fit_schema(host, full.values)
    keys = [*full.values, *(key for key in full.defaults if key not in full.values)]
    tree: dict[str, Any] = {}
    for key in keys:
        value = _with_options(full[key], (key,), full, host)
        tree[key] = _leaves(value, (key,), _Resolving(full, host, schema))
    return tree


def in_effect(recipe: Recipe, host: Host) -> dict[KeyPath, Leaf]:
    """The leaves of what takes effect in a run of `recipe`, by their key paths."""
    owners, used = taking_part(recipe, host), used_keys(recipe, host)
    return {
        path: leaf
        for path, leaf in _flat(resolved(recipe, host), ())
        if path[0] not in ABOUT_RECIPES and (host.key_owners.get(str(path[0])) in owners or path[0] in used)
    }


@dataclass(frozen=True)
class _Resolving:
    recipe: Recipe
    host: Host
    schema: Schema


def _with_options(value: Any, path: KeyPath, recipe: Recipe, host: Host) -> Any:
    """The value with the default options of each entry's format or metric put in."""
    if path in ITEM_LISTS and isinstance(value, list):
        table = ITEM_LISTS[path].table
        return [_entry(entry, (*path, index), table, recipe, host) for index, entry in enumerate(value)]
    if isinstance(value, Mapping) and any(path == listed[: len(path)] for listed in ITEM_LISTS):
        return {key: _with_options(entry, (*path, key), recipe, host) for key, entry in value.items()}
    return value


def _entry(entry: Any, path: KeyPath, table: str, recipe: Recipe, host: Host) -> Any:
    component = find_component(host, table, entry.get("type")) if isinstance(entry, Mapping) else None
    if component is None:
        return entry
    options = item_options(component.options_schema, entry, recipe, path)
    return {**entry, **{key: value for key, value in options.items() if key not in entry}}


def _leaves(value: Any, path: KeyPath, at: _Resolving) -> Any:
    if isinstance(value, Mapping) and value:
        return {key: _leaves(entry, (*path, key), at) for key, entry in value.items()}
    if isinstance(value, (list, tuple)) and value:
        return [_leaves(entry, (*path, index), at) for index, entry in enumerate(value)]
    effect = value
    if isinstance(value, str) and schema_at(at.schema, path).get("x-path") is True:
        effect = resolve_input_path(value, at.recipe.folder_of(path))
    written, _ = _held(at.recipe.values, path)
    shown = at.recipe.written.get(path, value)
    secret = next((str(part) for part in path if names_a_secret(str(part))), "")
    return Leaf(without_secrets(shown, secret), effect, _origin(path, at) if written else _default_origin(path, at))


def _origin(path: KeyPath, at: _Resolving) -> str:
    place = at.recipe.place_of(path)
    if place is None:
        return str(at.recipe.path)
    return COMMAND_LINE if place.file == COMMAND_LINE else f"{masked(place.file)}:{place.line}"


def _default_origin(path: KeyPath, at: _Resolving) -> str:
    """Where a value that no file sets came from: another key, or the default of the plugin that owns key or option."""
    key = str(path[0])
    for listed, kind in ITEM_LISTS.items():
        if path[: len(listed)] == listed and len(path) > len(listed) + 1:
            _, entry = _held({key: at.recipe[key]}, path[: len(listed) + 1])
            component = find_component(at.host, kind.table, entry.get("type")) if isinstance(entry, Mapping) else None
            option = str(path[len(listed) + 1])
            if component and option in component.options_schema:
                if component.options_schema[option].get("x-inherit") and at.recipe[option] is not None:
                    return _origin((option,), at) if option in at.recipe else _default_origin((option,), at)
                return f"default of {at.host.component_owners[(_HOOKS[kind.table], component.name)]}"
    return _implied_by(key, at) or f"default of {at.host.key_owners.get(key, key)}"


def _implied_by(key: str, at: _Resolving) -> str | None:
    """For a value that another key of the recipe gives to this one: that key and its place."""
    for other, schema in at.host.recipe_keys.items():
        if key in schema.get("x-means", {}) and at.recipe.values.get(other) is True:
            return f"{other}, {_origin((other,), at)}"
    if key == "gradient_accumulation_steps" and "batch_size" in at.recipe.values:
        return f"batch_size, {_origin(('batch_size',), at)}"
    return None


def _held(values: Any, path: KeyPath) -> tuple[bool, Any]:
    """Whether the values hold something at `path`, and what."""
    for part in path:
        keys: Any = values if isinstance(values, Mapping) else range(len(values)) if isinstance(values, list) else ()
        if part not in keys:
            return False, None
        values = values[part]
    return True, values


def _flat(tree: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Leaf]]:
    if isinstance(tree, Leaf):
        yield path, tree
    else:
        for key, entry in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from _flat(entry, (*path, key))
