"""`format_compliance`: the answer has the form that was asked for, whether or not it is right."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from core import Evaluator, Item, Problem, Recipe, hookimpl
from core.check.paths import resolve_input_path
from core.types import KeyPath, Options
from plugins.evaluators.json_text import NotJson, parse_json

NAME = "format_compliance"
OPTIONS: dict[str, Any] = {
    "json": {"type": "boolean", "default": False, "description": "The answer is one JSON value and nothing else."},
    "json_schema": {
        "type": ["string", "object"],
        "x-path": True,
        "description": "The answer is JSON that this JSON Schema accepts: a file, or the schema itself.",
    },
    "regex": {
        "type": "string",
        "x-env": False,
        "description": "The whole answer matches this regular expression (Python's).",
    },
    "enum": {
        "type": "array",
        "items": {"type": "string", "x-env": False},
        "minItems": 1,
        "description": "The answer is one of these texts.",
    },
}
WAYS = tuple(OPTIONS)


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """1 if the answer, white space at both ends aside, is as asked; else 0 and a 1 under each reason.

    Reasons: `not_json`, `schema`, `regex`, `enum`, as far as the options ask for them.
    """
    answer, reasons = prediction.strip(), {}
    if options.get("json") or options.get("json_schema") is not None:
        value, valid = _parsed(answer)
        reasons["not_json"] = not valid
        if options.get("json_schema") is not None:
            reasons["schema"] = valid and not _validator(_key(options["json_schema"])).is_valid(value)
    if options.get("regex") is not None:
        reasons["regex"] = re.fullmatch(options["regex"], answer) is None
    if options.get("enum"):
        reasons["enum"] = answer not in options["enum"]
    return {NAME: float(not any(reasons.values())), **{name: float(failed) for name, failed in reasons.items()}}


def _parsed(text: str) -> tuple[Any, bool]:
    try:
        return parse_json(text), True
    except NotJson:
        return None, False


def _key(schema: str | Mapping[str, Any]) -> str:
    """One text for a schema given as a file's path or inline, to compile it once."""
    return schema if isinstance(schema, str) else json.dumps(schema)


@lru_cache(maxsize=32)
def _validator(schema: str) -> Any:
    from jsonschema.validators import validator_for
    from jsonschema_specifications import REGISTRY

    loaded = json.loads(schema if schema.lstrip().startswith("{") else Path(schema).read_text(encoding="utf-8"))
    # left to itself, jsonschema fetches the $ref of another document from the network
    return validator_for(loaded)(loaded, registry=REGISTRY)


# ---------------------------------------------------------------- the rules of the recipe


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """Every `format_compliance` asks for something, and its schema and regular expression are valid."""
    evaluation = recipe["evaluation"]
    metrics = evaluation.get("metrics") if isinstance(evaluation, Mapping) else None
    problems: list[Problem] = []
    for index, metric in enumerate(metrics or ()):
        if isinstance(metric, Mapping) and metric.get("type") == NAME:
            key: KeyPath = ("evaluation", "metrics", index)
            problems += _check_metric(metric, key, recipe.folder_of((*key, "json_schema")))
    return problems


def _check_metric(metric: Mapping[str, Any], key: KeyPath, folder: Path) -> list[Problem]:
    if not any(metric.get(way) not in (None, False) for way in WAYS):
        return [
            Problem(
                f"{NAME} is not told which form an answer should have",
                key=(*key, "type"),
                at="value",
                help=f"add one of {', '.join(WAYS)}",
            )
        ]
    problems = []
    if isinstance(metric.get("regex"), str):
        problems += _check_regex(metric["regex"], (*key, "regex"))
    if metric.get("json_schema") is not None:
        problems += _check_schema(metric["json_schema"], (*key, "json_schema"), folder)
    return problems


def _check_regex(pattern: str, key: KeyPath) -> list[Problem]:
    try:
        re.compile(pattern)
    except re.error as error:
        return [Problem(f"{pattern!r} is not a regular expression: {error}", key=key, at="value")]
    return []


def _check_schema(schema: Any, key: KeyPath, folder: Path) -> list[Problem]:
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    named = ""
    if isinstance(schema, str):
        path = Path(resolve_input_path(schema, folder))
        named = f"{schema!r}: "
        try:
            schema = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            return [
                Problem(
                    f"no JSON Schema can be read at {schema!r}: {error.strerror}",
                    key=key,
                    at="value",
                    help=f"it was looked for at {path}",
                )
            ]
        except ValueError as error:
            return [Problem(f"{named}not valid JSON: {error}", key=key, at="value")]
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "the top"
        return [Problem(f"{named}not a valid JSON Schema: {error.message} (at {where})", key=key, at="value")]
    return []


@hookimpl
def evaluators() -> list[Evaluator]:
    description = "Share of answers in the form asked for: JSON, JSON Schema, regular expression, one of a list."
    return [Evaluator(NAME, score, options_schema=OPTIONS, description=description)]
