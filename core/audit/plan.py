"""The key `data_checks`: its schema, made of all checks that are there, and the checks that a recipe asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.audit.facts import CheckPlan, DataCheck
from core.types import Schema

LEVELS = ("error", "warn", "off")


def with_checks(schema: Schema, checks: Mapping[str, DataCheck]) -> Schema:
    """The schema of `data_checks` with a key for every check."""
    return {**schema, "properties": {name: _schema(check) for name, check in sorted(checks.items())}}


def _schema(check: DataCheck) -> Schema:
    level = {
        "type": "string",
        "enum": list(LEVELS),
        "x-false-means": "off",
        "description": "What a finding is; off leaves the check out.",
    }
    return {
        "type": ["string", "object"],
        "pattern": f"^({'|'.join(LEVELS)})$",
        "x-expected": "error, warn, off, or a map of level and options",
        "x-false-means": "off",
        "default": check.default,
        "description": check.description or f"The data check {check.name}.",
        "properties": {"level": level, **check.options_schema},
        "additionalProperties": False,
    }


def planned_checks(wanted: Mapping[str, Any], checks: Mapping[str, DataCheck]) -> tuple[CheckPlan, ...]:
    """The checks to make, in the order of their names. wanted: the value of `data_checks` in the recipe."""
    plans = []
    for name, check in sorted(checks.items()):
        given = wanted.get(name) or check.default
        own = given if isinstance(given, Mapping) else {"level": given}
        level = own.get("level", check.default)
        defaults = {key: schema["default"] for key, schema in check.options_schema.items() if "default" in schema}
        options = {**defaults, **{key: value for key, value in own.items() if key != "level"}}
        if level != "off":
            plans.append(CheckPlan(check, level, options))
    return tuple(plans)
