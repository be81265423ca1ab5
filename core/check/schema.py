"""One flat schema out of the fragments of all owners, fitted to the recipe at hand.

Items of a list such as `datasets` take the keys of the component that their `type` names. The checker picks that
fragment itself, because errors of `anyOf` and `if` cannot be read; only the exported schema uses `if`/`then`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from core.check.names import find_format
from core.host import Host
from core.types import KeyPath, Schema

DRAFT = "https://json-schema.org/draft/2020-12/schema"
REQUIRED = ("base_model", "datasets")


class ItemList(NamedTuple):
    """A list whose items take further keys from the component named by `type`."""

    table: str  # the host's table of components
    kind: str  # what the component is called in messages


ITEM_LISTS: Mapping[KeyPath, ItemList] = {
    ("datasets",): ItemList("formats", "dataset format"),
    ("test_datasets",): ItemList("formats", "dataset format"),
    ("evaluation", "datasets"): ItemList("formats", "dataset format"),
    ("evaluation", "metrics"): ItemList("evaluators", "metric"),
}


def compose_schema(host: Host) -> Schema:
    """The flat schema of all recipe keys that `host` knows; items of component lists hold their shared keys only."""
    return {
        "$schema": DRAFT,
        "type": "object",
        "properties": dict(host.recipe_keys),
        "required": list(REQUIRED),
        "additionalProperties": False,
    }


def find_component(host: Host, table: str, name: Any) -> Any:
    """The format or evaluator that `type: name` picks, or None."""
    if not isinstance(name, str):
        return None
    if table == "formats":
        return find_format(name, host)
    return getattr(host, table).get(name)


def fit_schema(host: Host, values: Mapping[str, Any]) -> Schema:
    """The composed schema with the items of every component list fitted to what this recipe's items are."""
    schema = compose_schema(host)
    for path, kind in ITEM_LISTS.items():
        entries: Any = values
        for key in path:
            entries = entries.get(key) if isinstance(entries, Mapping) else None
        if isinstance(entries, list):
            schema = replaced(schema, path, lambda old, entries=entries, kind=kind: _fit_list(old, entries, host, kind))
    return schema


def schema_at(schema: Schema, path: KeyPath) -> Schema:
    """The part of `schema` that describes the value at `path`; empty where nothing is said about it."""
    for part in path:
        if isinstance(part, int):
            prefix = schema.get("prefixItems", ())
            found = prefix[part] if part < len(prefix) else schema.get("items")
        else:
            found = schema.get("properties", {}).get(part, schema.get("additionalProperties"))
        schema = found if isinstance(found, dict) else {}
    return schema


def replaced(schema: Schema, path: KeyPath, change: Any) -> Schema:
    """A copy of `schema` with the property at `path` put through `change`; as it was where there is none."""
    key, rest = path[0], path[1:]
    properties = schema.get("properties", {})
    if key not in properties:
        return schema
    old = properties[key]
    return {**schema, "properties": {**properties, key: replaced(old, rest, change) if rest else change(old)}}


def _fit_list(schema: Schema, entries: list[Any], host: Host, kind: ItemList) -> Schema:
    shared = schema.get("items", {})
    return {**schema, "prefixItems": [_fit_item(shared, entry, host, kind) for entry in entries], "items": True}


def _fit_item(shared: Schema, entry: Any, host: Host, kind: ItemList) -> Schema:
    if not isinstance(entry, Mapping):
        return {"type": "object", "required": shared.get("required", [])}
    component = find_component(host, kind.table, entry.get("type"))
    if component is None:
        # the unknown (or missing) type is the one thing to say: what its options are cannot be known
        return {**shared, "additionalProperties": True}
    properties = {**shared.get("properties", {}), **component.options_schema}
    needed = [name for name, option in component.options_schema.items() if option.get("x-required")]
    required = [*shared.get("required", ()), *needed]
    return {**shared, "properties": properties, "required": required, "additionalProperties": False}
