"""`format_compliance`: the answer has the form that was asked for, whether or not it is right."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from core import Evaluator, Item, Problem, Recipe, hookimpl
from core.check.paths import resolve_input_path
from core.types import KeyPath, Options
from plugins.evaluators.entries import entries, regex_problems
from plugins.evaluators.json_text import OPTION, NotJson, is_settled, parse_answer

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
OPTIONS |= OPTION
SHOWN = 20  # messages of a schema that are counted one by one


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """1 if the answer, white space at both ends aside, is as asked; else 0 and a 1 under each reason.

    Reasons: `not_json`, `schema`, `regex`, `enum`, as far as the options ask for them.
    """
    reasons = _failures(prediction, options)
    return {NAME: float(not any(reasons.values())), **{name: float(failed) for name, failed in reasons.items()}}


def details(predictions: Sequence[str], items: Sequence[Item], options: Options) -> dict[str, Any]:
    """How many answers failed for each reason, and what the JSON Schema complained of, most frequent first."""
    reasons: Counter[str] = Counter()
    complaints: Counter[str] = Counter()
    for prediction in predictions:
        failed = _failures(prediction, options)
        reasons.update({name: int(value) for name, value in failed.items()})
        if failed.get("schema"):
            value, _ = _parsed(prediction.strip(), options)
            complaints.update(
                {_complaint(error) for error in _validator(_key(options["json_schema"])).iter_errors(value)}
            )
    found: dict[str, Any] = {"reasons": dict(reasons)}
    if complaints:
        found["schema_errors"] = [{"message": text, "count": n} for text, n in complaints.most_common(SHOWN)]
    return found


def settled(text: str, item: Item, options: Options) -> bool:
    """Whether nothing that follows changes the form: the JSON that counts is there, or no text of `enum` begins so."""
    asked = [way for way in WAYS if options.get(way) not in (None, False)]
    if set(asked) <= {"json", "json_schema"}:
        return is_settled(text, options)
    if asked == ["enum"]:
        return not any(str(one).startswith(text.strip()) for one in options["enum"])
    return False


def _failures(prediction: str, options: Options) -> dict[str, bool]:
    answer, reasons = prediction.strip(), {}
    if options.get("json") or options.get("json_schema") is not None:
        value, valid = _parsed(answer, options)
        reasons["not_json"] = not valid
        if options.get("json_schema") is not None:
            reasons["schema"] = valid and not _validator(_key(options["json_schema"])).is_valid(value)
    if options.get("regex") is not None:
        reasons["regex"] = re.fullmatch(options["regex"], answer) is None
    if options.get("enum"):
        reasons["enum"] = answer not in options["enum"]
    return reasons


def _parsed(text: str, options: Options) -> tuple[Any, bool]:
    try:
        return parse_answer(text, options), True
    except NotJson:
        return None, False


def _complaint(error: Any) -> str:
    """What failed and where, without the answer's own value, so that equal failures count together."""
    place = "/".join(map(str, error.absolute_path)) or "the top"
    if error.validator == "required":
        return f"{error.message} (at {place})"
    if error.validator == "enum":
        return f"not one of the values allowed (at {place})"
    return f"{error.validator}: {json.dumps(error.validator_value)[:120]} not met (at {place})"


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
    return [
        problem
        for key, metric in entries(recipe, NAME)
        for problem in _check_metric(metric, key, recipe.folder_of((*key, "json_schema")))
    ]


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
    problems = regex_problems(metric.get("regex"), (*key, "regex"))
    if metric.get("json_schema") is not None:
        problems += _check_schema(metric["json_schema"], (*key, "json_schema"), folder)
    return problems


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
            help = 'put a JSON Schema into the file, such as {"type": "object", "required": ["code"]}'
            return [Problem(f"{named}not valid JSON: {error}", key=key, at="value", help=help)]
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "the top"
        # a schema that stands in the recipe has its mistake there
        inside = key if named else (*key, *error.absolute_path)
        help = "json-schema.org describes what each keyword takes"
        message = f"{named}not a valid JSON Schema: {error.message} (at {where})"
        return [Problem(message, key=inside, at="value", help=help)]
    return [
        Problem(
            f"{named}the $ref {reference!r} leads nowhere",
            key=key,
            at="value",
            help="nothing is fetched: put what it refers to under $defs of the schema, and write #/$defs/...",
        )
        for reference in _lost_references(schema)
    ]


def _lost_references(schema: Any) -> list[str]:
    """Every `$ref` of a valid schema that a validator could not follow; it fails only once it gets there."""
    from jsonschema.validators import validator_for
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, specification_with

    if not isinstance(schema, dict):
        return []
    dialect = validator_for(schema).META_SCHEMA.get("$schema", "")
    resource = specification_with(dialect, default=DRAFT202012).create_resource(schema)
    lost: list[str] = []
    seen: set[str] = set()
    waiting = [(resource, REGISTRY.resolver_with_root(resource))]
    while waiting:
        here, resolver = waiting.pop()
        reference = here.contents.get("$ref") if isinstance(here.contents, dict) else None
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            try:
                resolver.lookup(reference)
            except Unresolvable:
                lost.append(reference)
        waiting += [(inner, resolver.in_subresource(inner)) for inner in here.subresources()]
    return lost


@hookimpl
def evaluators() -> list[Evaluator]:
    description = "Share of answers in the form asked for: JSON, JSON Schema, regular expression, one of a list."
    return [Evaluator(NAME, score, options_schema=OPTIONS, description=description, details=details, settled=settled)]
