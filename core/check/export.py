"""The schema for editors: one file in which the items of component lists branch on their `type`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from core.check.schema import ITEM_LISTS, ItemList, compose_schema, replaced
from core.host import Host
from core.types import KeyPath, Schema

# picks a component by a name at the top level of the recipe
_NAMES: Mapping[KeyPath, str] = {("adapter",): "adapters", ("trainer",): "trainers"}


def export_schema(host: Host) -> Schema:
    """The composed schema with names listed and, per `type` of a list item, the keys that this type takes."""
    schema = compose_schema(host)
    schema = {"$schema": schema.pop("$schema"), "title": "Tunesmith recipe", **schema}
    for path, table in _NAMES.items():
        names = sorted(getattr(host, table))
        schema = replaced(schema, path, lambda old, names=names: {**_without_marks(old), "enum": names})
    for path, kind in ITEM_LISTS.items():
        schema = replaced(schema, path, lambda old, kind=kind: {**old, "items": _branches(old["items"], host, kind)})
    cleaned: Schema = _nullable(_without_marks(schema))
    # what a recipe leaves out may stand in the one it extends
    needed = {"if": {"not": {"required": ["extends"]}}, "then": {"required": cleaned.pop("required")}}
    return {**cleaned, **needed}


def schema_text(host: Host) -> str:
    """The exported schema as the text of a file."""
    return json.dumps(export_schema(host), indent=1, ensure_ascii=False) + "\n"


def _branches(item: Schema, host: Host, kind: ItemList) -> Schema:
    """The item schema with `type` listed and one `if`/`then` per component.

    Every branch repeats the shared keys, because `additionalProperties: false` sees only the keys beside it.
    """
    components: Mapping[str, Any] = getattr(host, kind.table)
    names = sorted(components)
    shared = {**item.get("properties", {})}
    shared["type"] = {**shared.get("type", {}), "enum": names}
    shared["type"].pop("minLength", None)
    shared["type"]["type"] = "string"
    branches = []
    for name in names:
        options = {**dict.fromkeys(shared, True), **components[name].options_schema}
        branches.append(
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": {"properties": options, "additionalProperties": False},
            }
        )
    return {**item, "properties": shared, "allOf": branches}


def _without_marks(schema: Any) -> Any:
    """The schema without the `x-` marks that only our checker reads."""
    if isinstance(schema, Mapping):
        return {key: _without_marks(value) for key, value in schema.items() if not str(key).startswith("x-")}
    return [_without_marks(entry) for entry in schema] if isinstance(schema, list) else schema


def _nullable(schema: Schema) -> Schema:
    """null unsets a key, so every key of a recipe may be null."""

    def allow(old: Schema) -> Schema:
        types = old.get("type")
        new = dict(old)
        if isinstance(types, (str, list)):
            new["type"] = [*([types] if isinstance(types, str) else types), "null"]
        if "enum" in old:
            new["enum"] = [*old["enum"], None]
        return new

    required = set(schema.get("required", ()))
    properties = {key: value if key in required else allow(value) for key, value in schema["properties"].items()}
    return {**schema, "properties": properties}
