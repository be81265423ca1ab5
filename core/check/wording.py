"""Schema violations as sentences: what the key holds, what it should hold, and the next step."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from core.check.names import did_you_mean
from core.errors import Problem
from core.types import KeyPath, Schema

_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a map",
    "null": "nothing",
}
_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}
# what people write for a switch, and YAML here takes for text
_SWITCHES = {"y": True, "yes": True, "on": True, "true": True, "n": False, "no": False, "off": False, "false": False}
_OCTAL = re.compile(r"[-+]?0[0-9]+")
_LONGEST = 60
_LARGEST = 2**53


def problems_of(error: Any, path: KeyPath, known: Mapping[str, Any]) -> Iterator[Problem]:
    """The problems that one jsonschema error at `path` stands for. known: the schemas of all recipe keys, for help."""
    value, schema, limit = error.instance, error.schema, error.validator_value
    name = dotted(path)
    told = _told(schema)
    match error.validator:
        case "type":
            yield _problem(
                f"{name!r} is {shown(value)}, expected {_expected(schema)}",
                path,
                _map_help(value, schema) or _type_help(value, limit) or told,
            )
        case "enum":
            allowed = [option for option in limit if option is not None]
            wanted = ", ".join(_yaml(option) for option in allowed)
            options = [option for option in allowed if isinstance(option, str)]
            near = did_you_mean(value, options, schema.get("default"))
            # a long list is a help, a short one part of the sentence
            if len(allowed) > 8:
                yield _problem(
                    f"{name!r} cannot be {shown(value)}", path, f"{near} " * bool(near) + f"it can be: {wanted}"
                )
            else:
                yield _problem(f"{name!r} is {shown(value)}, expected one of: {wanted}", path, near or told)
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            # the way of other tools to say that something has no limit
            unlimited = value == -1 and limit == 1 and len(path) == 1
            help = "leave the key out, or set it to null, for no such limit" if unlimited else told
            yield _problem(f"{name!r} is {shown(value)}, expected {_BOUNDS[error.validator]} {limit}", path, help)
        case "minLength" | "minItems" | "minProperties" if not value:
            kind = "empty" if value == "" else "an empty list" if value == [] else "an empty map"
            yield _problem(f"{name!r} is {kind}", path, told)
        case "minItems" | "minLength":
            what = "entries" if error.validator == "minItems" else "characters"
            yield _problem(f"{name!r} has {len(value)}, expected at least {limit} {what}", path, told)
        case "pattern":
            kinds = [kind for kind in _types(schema) if kind != "string"]
            word = limit.strip("^$")
            written = [_KINDS[kind] for kind in kinds] + [word if word.isalnum() else f"text that matches {limit}"]
            wanted = schema.get("x-expected") or " or ".join(written)
            near = did_you_mean(value, wanted.split(", "))
            help = near or (_type_help(value, kinds) if kinds else None) or told
            yield _problem(f"{name!r} is {shown(value)}, expected {wanted}", path, help)
        case "required":
            for key in limit:
                if key not in value:
                    inner = known.get(key, {}) if not path else schema.get("properties", {}).get(key, {})
                    yield missing(path, key, inner)
        case "additionalProperties":
            for key in value:
                if key not in schema.get("properties", {}):
                    yield unknown((*path, key), schema.get("properties", {}))
        case _:
            message = error.message[:200]
            yield _problem(f"{name!r} is not valid: {message[0].lower()}{message[1:]}", path, told)


def missing(path: KeyPath, key: str, schema: Schema) -> Problem:
    """The problem of a required key that is not there."""
    within = f" in {dotted(path)!r}" if path else ""
    return Problem(f"{key!r} is missing{within}", key=(*path, key), help=_told(schema, key))


def unknown(path: KeyPath, candidates: Mapping[str, Any]) -> Problem:
    """The problem of a key inside a map that takes only certain keys."""
    key = path[-1]
    within = f" in {dotted(path[:-1])!r}" if path[:-1] else ""
    listed = f"the keys are: {', '.join(candidates)}" if 0 < len(candidates) <= 20 else None
    advice = did_you_mean(key, candidates) or listed or "remove it, or install the plugin that owns it"
    return Problem(f"unknown key {key!r}{within}", key=path, help=advice)


def not_finite(value: Any, path: KeyPath) -> Iterator[Problem]:
    """Problems of numbers that are none (.nan, .inf) or beyond all measure, which slip through a schema's bounds."""
    if isinstance(value, float) and not math.isfinite(value):
        yield _problem(f"{dotted(path)!r} is {shown(value)}, expected a finite number", path, "write the number out")
    elif isinstance(value, int) and abs(value) > _LARGEST:
        yield _problem(f"{dotted(path)!r} is {shown(value)}, which is too large", path, "write a smaller number")
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from not_finite(entry, (*path, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from not_finite(entry, (*path, index))


def shown(value: Any) -> str:
    """A value as messages show it: its kind, and its text cut short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {_cut(value)!r}"
    if isinstance(value, (int, float)):
        return _cut(_yaml(value))
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return f"a map with {', '.join(map(repr, list(value)[:3]))}" if value else "an empty map"


def dotted(path: KeyPath) -> str:
    """A key path as `--set` takes it: `datasets.0.path`."""
    return ".".join(map(str, path))


def _problem(message: str, path: KeyPath, help: str | None) -> Problem:
    return Problem(message, key=path, help=help, at="value")


def _told(schema: Any, key: str | None = None) -> str | None:
    """A schema's description, as a help text."""
    text = schema.get("description", "") if isinstance(schema, Mapping) else ""
    if not text:
        return None
    first = text.split(". ")[0].rstrip(".")
    plain = first if first[1:2].isupper() else first[0].lower() + first[1:]
    return f"{key}: {plain}" if key else plain


def _expected(schema: Schema) -> str:
    names = _types(schema)
    if schema.get("x-expected"):
        return str(schema["x-expected"])
    if "enum" in schema and len(schema["enum"]) <= 8:
        return f"one of: {', '.join(_yaml(option) for option in schema['enum'])}"
    kinds = [_KINDS.get(name, str(name)) for name in names]
    if names == ["array"] and isinstance(schema.get("items"), Mapping):
        inner = schema["items"].get("type")
        kinds = [f"a list of {'maps' if inner == 'object' else 'texts' if inner == 'string' else 'values'}"]
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def _types(schema: Schema) -> list[str]:
    types = schema.get("type", [])
    return types if isinstance(types, list) else [types]


def _map_help(value: Any, schema: Schema) -> str | None:
    """How to write a plain text where a map with one needed key is expected, such as a metric by its name, or a list of
    such maps."""
    if not isinstance(value, str) or schema["type"] not in ("object", "array"):
        return None
    entry = schema if schema["type"] == "object" else schema.get("items", {})
    if entry.get("type") != "object" or len(entry.get("required", ())) != 1:
        return None
    written = f"{entry['required'][0]}: {_cut(value)}"
    return f"write '{written}'" if entry is schema else f"write a list of maps: [{{{written}}}]"


def _type_help(value: Any, wanted: Any) -> str | None:
    from core.yaml_nodes import resolve_scalar

    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if isinstance(value, str):
        plain = resolve_scalar(value.strip())
        numeric = isinstance(plain, (int, float)) and not isinstance(plain, bool)
        if (numeric and {"integer", "number"} & set(names)) or (isinstance(plain, bool) and "boolean" in names):
            return f"remove the quotes: {value.strip()}"
        if "boolean" in names and value.lower() in _SWITCHES:
            return f"write {_yaml(_SWITCHES[value.lower()])}"
        if {"integer", "number"} & set(names) and _OCTAL.fullmatch(value):
            return f"write {int(value)}; an octal number is written 0o{value.lstrip('-+0') or '0'}"
        if names == ["object"]:
            return "write 'key: value' pairs"
        if "array" in names and "object" not in names:
            return f"write a list: [{_cut(value)}]"
    elif value is None:
        return "fill the entry in, or remove it"
    elif "string" in names and not isinstance(value, (list, Mapping)):
        return f'quote it to make it text: "{_yaml(value)}"'
    elif isinstance(value, Mapping) and "array" in names:
        return "write a list: put '- ' before the first key of each entry"
    elif isinstance(value, list) and len(value) == 1 and "array" not in names:
        return "write the value alone, without a list around it"
    elif isinstance(value, float) and "integer" in names:
        return f"write a whole number, such as {round(value) if math.isfinite(value) else 1}"
    return None


def _yaml(value: Any) -> str:
    """A scalar the way a recipe writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, str)):
        try:
            return str(value)
        except ValueError:  # an integer of thousands of digits
            return "a very long number"
    return json.dumps(value)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
