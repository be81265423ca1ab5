"""What a recipe means once the schemas have spoken: values of the right type, and the defaults of all who take part."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from core.check.names import parted_style
from core.check.owners import taking_part, used_keys
from core.check.paths import resolve_input_path
from core.check.schema import ITEM_LISTS, find_component, fit_schema
from core.host import Host
from core.overrides import COMMAND_LINE
from core.recipe import Recipe
from core.sharing.variables import expand
from core.types import KeyPath, Options, Schema

# formats that a recipe picks without their names: written out as a map, and not at all
WRITTEN_OUT, TOKENISED = "user_defined", "pretokenised"

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


def resolve_defaults(recipe: Recipe, host: Host) -> Recipe:
    """The recipe with values typed and `defaults` filled from the schemas of the owners that take part in this run."""
    recipe = typed(recipe, host)
    owners, used = taking_part(recipe, host), used_keys(recipe, host)
    defaults: dict[str, Any] = {}
    for key, schema in host.recipe_keys.items():
        if host.key_owners[key] in owners or key in used:
            value = _default(schema)
            if value is not None:
                defaults[key] = value
    defaults |= _implied(recipe.values, host)
    return replace(recipe, defaults=defaults)


def item_options(options_schema: Schema, item: Mapping[str, Any], recipe: Recipe, key: KeyPath = ()) -> Options:
    """The options of one entry of `datasets` or `evaluation.metrics`, which stands at `key`: what it sets, then the
    recipe's own key for an option marked `x-inherit`, then the option's default. Keys that all entries share (`path`,
    `split`) are kept; files of options marked `x-path` become absolute paths."""
    options: dict[str, Any] = {}
    for name, schema in options_schema.items():
        if schema.get("x-path") and isinstance(item.get(name), str):
            item = {**item, name: resolve_input_path(item[name], recipe.folder_of((*key, name)))}
        inherited = recipe[name] if schema.get("x-inherit") else None
        if schema.get("x-path") and isinstance(inherited, str):
            inherited = resolve_input_path(inherited, recipe.folder_of((name,)))
        value = inherited if inherited is not None else copy.deepcopy(schema.get("default"))
        if value is not None:
            options[name] = value
    return {**options, **item}


def typed(recipe: Recipe, host: Host) -> Recipe:
    """The recipe with each value as its schema wants it, where that is safe.

    `--set` text for a text key stays text (`123`), 4.0 for a whole number is 4, `no` (false in YAML) for a named
    strategy is "no", and `chat_template.default` is the format's own name.
    """
    schema = fit_schema(host, recipe.values)
    recipe = expand(recipe, schema)
    positions: dict[KeyPath, Any] = {}
    values = {
        key: _typed(value, schema["properties"].get(key, {}), (key,), recipe) for key, value in recipe.values.items()
    }
    for path, kind in ITEM_LISTS.items():
        entries: Any = values
        for part in path:
            entries = entries.get(part) if isinstance(entries, dict) else None
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if not isinstance(entry, dict):
                continue
            if kind.table == "formats":
                positions |= _adopt_written_out(entry, (*path, index), recipe, host)
            component = find_component(host, kind.table, entry.get("type"))
            if component is not None:
                _, style = parted_style(entry["type"])
                entry["type"] = component.name
                if style:
                    entry.setdefault("prompt_style", style)
                _adopt_older_names(entry, component.options_schema)
    return replace(recipe, values=values, positions={**recipe.positions, **positions})


def _adopt_written_out(entry: dict[str, Any], place: KeyPath, recipe: Recipe, host: Host) -> dict[KeyPath, Any]:
    """A format written out as a map under `type`, or none at all, under its own name; returns where its options stand.

    A data set without a `type` holds token ids, in recipes for axolotl.
    """
    written = entry.get("type")
    if isinstance(written, dict) and WRITTEN_OUT in host.formats:
        entry["type"] = WRITTEN_OUT
        for key, value in written.items():
            entry.setdefault(key, value)
        return {(*place, key): recipe.positions[(*place, "type", key)] for key in written}
    if (
        written is None
        and place[0] != "evaluation"
        and isinstance(entry.get("path"), str)
        and TOKENISED in host.formats
    ):
        entry["type"] = TOKENISED
    return {}


def _adopt_older_names(entry: dict[str, Any], options: Schema) -> None:
    """`message_field_role: from` is the older way to write `message_property_mappings: {role: from}`."""
    older = {name: f"message_field_{name}" for name in ("role", "content")}
    if "message_property_mappings" in options and "message_property_mappings" not in entry:
        mappings = {name: entry.pop(key) for name, key in older.items() if key in entry}
        if mappings:
            entry["message_property_mappings"] = mappings


def fits_type(value: Any, names: str | list[str]) -> bool:
    """Whether a value is of one of the JSON Schema types named; true and false are no numbers."""
    wanted = [names] if isinstance(names, str) else names
    return any(
        isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
        for name in wanted
        if name in _TYPES
    )


def _typed(value: Any, schema: Any, path: KeyPath, recipe: Recipe) -> Any:
    if not isinstance(schema, dict):
        schema = {}
    if isinstance(value, dict):
        properties, other = schema.get("properties", {}), schema.get("additionalProperties")
        return {key: _typed(entry, properties.get(key, other), (*path, key), recipe) for key, entry in value.items()}
    if isinstance(value, list):
        prefix, items = schema.get("prefixItems", ()), schema.get("items")
        return [
            _typed(entry, prefix[index] if index < len(prefix) else items, (*path, index), recipe)
            for index, entry in enumerate(value)
        ]
    types = schema.get("type")
    if value is False and "x-false-means" in schema:
        return schema["x-false-means"]
    if types is None or fits_type(value, types):
        return value
    if fits_type(1, types) and isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if fits_type("", types):
        return _override_text(path, recipe, value)
    return value


def _override_text(path: KeyPath, recipe: Recipe, value: Any) -> Any:
    """The text of the override that set the scalar at `path`, or the value itself if the file did."""
    key_place, value_place = recipe.positions.get(path, (None, None))
    if key_place is None or value_place is None or key_place.file != COMMAND_LINE:
        return value
    name, _, text = recipe.overrides[key_place.line - 1].partition("=")
    return text if name.strip() == ".".join(map(str, path)) else value


def _default(schema: Schema) -> Any:
    if "default" in schema:
        return copy.deepcopy(schema["default"])
    nested = {key: _default(inner) for key, inner in schema.get("properties", {}).items()}
    return {key: value for key, value in nested.items() if value is not None} or None


def _implied(values: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """Values that one key gives to another which the recipe leaves out."""
    implied: dict[str, Any] = {}
    for key, schema in host.recipe_keys.items():
        if values.get(key) is True:
            implied |= schema.get("x-means", {})
    usual = host.recipe_keys.get("micro_batch_size", {}).get("default", 1)
    total, micro = values.get("batch_size"), values.get("micro_batch_size", usual)
    if isinstance(total, int) and isinstance(micro, int) and micro > 0:
        implied["gradient_accumulation_steps"] = max(1, total // micro)
    return implied
