"""Tools and calls of tools, as chat templates take them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from core import RowError
from core.data.formats import describe

CALLS = "tool_calls"


def read_tools(row: Mapping[str, Any], options: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The tools of a row; None where it has none. Raises `RowError` for what is no list of tools."""
    field = options.get("field_tools") or "tools"
    given = row.get(field)
    if isinstance(given, str) and given.strip():
        given = _parsed(given, f"field {field!r}", field)
    if not given:
        return None
    if not isinstance(given, list):
        raise RowError(f"field {field!r} is {describe(given)}, not a list of tools", field=field)
    return [_tool(tool, number, field) for number, tool in enumerate(given, start=1)]


def read_calls(message: Mapping[str, Any], number: int, key: str = CALLS) -> list[dict[str, Any]] | None:
    """The calls of a message with the arguments of each as an object; None where there are none."""
    given = message.get(key)
    if not given:
        return None
    if not isinstance(given, list):
        raise RowError(f"{key!r} of message {number} is {describe(given)}, not a list of calls")
    return [_call(call, f"call {index} of message {number}") for index, call in enumerate(given, start=1)]


def _tool(tool: Any, number: int, field: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise RowError(f"tool {number} is {describe(tool)}, not an object", field=field)
    function = tool.get("function")
    if not isinstance(function, dict):
        return tool
    parameters = function.get("parameters")
    if isinstance(parameters, str):
        parameters = _parsed(parameters, f"the parameters of tool {number}", field)
        return {**tool, "function": {**function, "parameters": parameters}}
    return tool


def _call(call: Any, name: str) -> dict[str, Any]:
    if not isinstance(call, dict):
        raise RowError(f"{name} is {describe(call)}, not an object")
    function = call.get("function")
    if "function" in call and not isinstance(function, dict):
        raise RowError(f"'function' of {name} is {describe(function)}, not an object")
    inner = function if isinstance(function, dict) else call
    if not isinstance(inner.get("name"), str):
        raise RowError(f"{name} names no function; it has: {', '.join(inner) or 'nothing'}")
    arguments = inner.get("arguments")
    if isinstance(arguments, str):
        arguments = _parsed(arguments, f"the arguments of {name}", None)
    if arguments is not None and not isinstance(arguments, dict):
        raise RowError(f"the arguments of {name} are {describe(arguments)}, not an object")
    inner = {**inner, "arguments": arguments or {}}
    return {**call, "function": inner} if isinstance(function, dict) else inner


def _parsed(text: str, name: str, field: str | None) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = (
            error.msg[:1].lower() + error.msg[1:] if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        )
        verb = "are" if name.startswith("the ") else "is"
        raise RowError(f"{name} {verb} no valid JSON: {reason}", field=field) from error
