"""JSON in an answer: as the whole text, or as the first object or array in it."""

from __future__ import annotations

import json
import re
from typing import Any

START = re.compile(r"[{\[]")
OPTION: dict[str, Any] = {
    "first_json": {
        "type": "boolean",
        "default": False,
        "description": "The first JSON object or array in the answer counts, whatever stands before and after it.",
    }
}


class NotJson(ValueError):
    """Text that is not one JSON value."""


def parse_json(text: str) -> Any:
    """The value of `text`. Raises `NotJson`, for NaN, infinities and doubled keys as well."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from error


def first_json(text: str) -> Any:
    """The value that begins at the first brace or bracket of `text`. Raises `NotJson`."""
    start = START.search(text)
    if start is None:
        raise NotJson("no object and no array")
    decoder = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_without_doubles)
    try:
        value, _ = decoder.raw_decode(text, start.start())
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from error
    return value


def parse_answer(text: str, options: Any) -> Any:
    """The JSON of an answer, read as the option `first_json` says. Raises `NotJson`."""
    return first_json(text) if options.get("first_json") else parse_json(text)


def is_settled(text: str, options: Any) -> bool:
    """Whether what follows cannot change the value of the answer: it is there already, and only the first counts."""
    if not options.get("first_json"):
        return False
    try:
        first_json(text)
    except NotJson:
        return False
    return True


def _refuse_constant(name: str) -> Any:
    raise NotJson(f"{name} is not JSON")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJson("a key stands twice in an object")
    return found
