"""Checks a recipe against what the host offers, without torch: the composed schema, every problem, the defaults."""

from __future__ import annotations

from core.check.defaults import item_options, resolve_defaults, typed
from core.check.problems import check_recipe, valid_recipe
from core.check.schema import compose_schema

__all__ = ["check_recipe", "compose_schema", "item_options", "resolve_defaults", "typed", "valid_recipe"]
