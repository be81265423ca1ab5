"""JSON as an answer must be: the whole text, nothing round it, and none of Python's extensions."""

from __future__ import annotations

import json
from typing import Any


class NotJson(ValueError):
    """Text that is not one JSON value."""


def parse_json(text: str) -> Any:
    """The value of `text`. Raises `NotJson`, for NaN, infinities and doubled keys as well."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from error


def _refuse_constant(name: str) -> Any:
    raise NotJson(f"{name} is not JSON")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJson("a key stands twice in an object")
    return found
