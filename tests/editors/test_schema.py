"""What the exported schema tells an editor about each key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from core.check.export import export_schema
from core.host import GROUP, load_host


@pytest.fixture(scope="module")
def schema() -> Mapping[str, Any]:
    return export_schema(load_host(disabled=[entry.name for entry in entry_points(group=GROUP)]))


def described(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, entry in schema.get("properties", {}).items():
        if isinstance(entry, Mapping):
            yield path + key, entry
            yield from described(entry, f"{path}{key}.")
            items = entry.get("items")
            yield from described(items if isinstance(items, Mapping) else {}, f"{path}{key}[].")


def test_every_key_is_described(schema: Mapping[str, Any]) -> None:
    keys = dict(described(schema))
    assert len(keys) > 150
    assert [key for key, entry in keys.items() if not entry.get("description")] == []


def test_examples_are_many_and_right(schema: Mapping[str, Any]) -> None:
    keys = {key: entry["examples"] for key, entry in described(schema) if "examples" in entry}
    assert len(keys) >= 40
    for key, examples in keys.items():
        for example in examples:
            Draft202012Validator(schema["properties"][key]).validate(example)


def test_nothing_that_only_our_checker_reads_is_exported(schema: Mapping[str, Any]) -> None:
    assert '"x-' not in str(schema).replace("'", '"')
    Draft202012Validator.check_schema(schema)
