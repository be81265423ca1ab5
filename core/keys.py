"""Core's own recipe keys, and the rules between them: a plugin like any other, only built in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.check.names import did_you_mean
from core.errors import Problem
from core.hookspecs import hookimpl
from core.recipe import Recipe
from core.schema_files import load_fragment
from core.types import KeyPath, Schema

# keys that hold a share below 1 and a count from 1 on
SHARE_OR_COUNT = ("val_set_size", "warmup_steps", "save_steps", "eval_steps")


@hookimpl
def recipe_keys() -> dict[str, Schema]:
    """The keys of schemas/recipe.json, data.json, training.json, evaluation.json and hub.json."""
    fragments = ("recipe", "data", "training", "evaluation", "hub")
    return {key: schema for name in fragments for key, schema in load_fragment(name).items()}


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """Rules across core's keys."""
    rules = (_counts, _older_names, _quantisation, _batches, _data, _texts)
    return [problem for rule in rules for problem in rule(recipe)]


def _counts(recipe: Recipe) -> Iterator[Problem]:
    for key in SHARE_OR_COUNT:
        value = recipe.values.get(key)
        if isinstance(value, float) and value > 1 and not value.is_integer():
            message = f"{key!r} is {value}, expected a share below 1 or a whole number"
            yield Problem(message, key=(key,), at="value", help=f"write {round(value)}, or a share such as 0.1")


def _older_names(recipe: Recipe) -> Iterator[Problem]:
    """Keys that set another key: by two of them to two values, or beside another value of its own, which wins."""
    said: dict[str, tuple[str, Any]] = {}
    for key, schema in recipe_keys().items():
        for other, value in schema.get("x-means", {}).items() if recipe.values.get(key) is True else ():
            given = recipe.values.get(other)
            first, before = (other, given) if given is not None else said.setdefault(other, (key, value))
            if before == value:
                continue
            if first == other:
                message = f"{key}: true has no effect beside {other}: {before}"
                yield Problem(message, key=(key,), severity="warning", help=f"keep one; {key} means {other}: {value}")
            else:
                message = f"{key}: true means {other}: {value}, and {first} says {before}"
                yield Problem(message, key=(key,), help=f"keep one of them: {other}: {before} or {other}: {value}")


def _quantisation(recipe: Recipe) -> Iterator[Problem]:
    if recipe["load_in_4bit"] and recipe["load_in_8bit"]:
        yield Problem("load_in_4bit and load_in_8bit are both set", key=("load_in_8bit",), help="keep one of them")
    if recipe["reinit_weights"] and (recipe["load_in_4bit"] or recipe["load_in_8bit"]):
        message = "reinit_weights starts from random weights, which cannot be held in 4 or 8 bits"
        yield Problem(message, key=("reinit_weights",), help="remove it, or load_in_4bit and load_in_8bit")


def _batches(recipe: Recipe) -> Iterator[Problem]:
    total, micro = recipe.values.get("batch_size"), recipe["micro_batch_size"]
    if total is None or not isinstance(micro, int):
        return
    steps = recipe.values.get("gradient_accumulation_steps")
    if steps is not None and steps * micro != total:
        message = f"batch_size is {total}, and micro_batch_size × gradient_accumulation_steps is {steps * micro}"
        yield Problem(message, key=("batch_size",), help="remove batch_size")
    elif total % micro:
        message = f"batch_size {total} is no multiple of micro_batch_size {micro}"
        yield Problem(message, key=("batch_size",), at="value", help=f"use {max(1, total // micro) * micro}")


def _data(recipe: Recipe) -> Iterator[Problem]:
    if recipe["val_set_size"] and recipe["test_datasets"]:
        message = "val_set_size and test_datasets both say what the validation loss is computed on"
        yield Problem(message, key=("val_set_size",), help="keep one of them")
    scored = recipe.values.get("evaluation", {}).get("datasets", [])
    if "evaluation" in recipe and not scored and not recipe["test_datasets"]:
        message = "evaluation has nothing to score: there is no held-out data"
        yield Problem(message, key=("evaluation",), severity="warning", help="list it under evaluation.datasets")
    trained = [_source(entry) for entry in recipe["datasets"]]
    for name, entries in (("test_datasets", recipe["test_datasets"] or []), ("evaluation", scored)):
        for index, entry in enumerate(entries):
            if _source(entry) in trained:
                place = ("test_datasets", index) if name == "test_datasets" else ("evaluation", "datasets", index)
                message = f"{entry['path']!r} is trained on too, so its scores say nothing about new data"
                yield Problem(message, key=(*place, "path"), at="value", severity="warning", help="hold rows back")


def _source(entry: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(str(entry.get(key)) for key in ("path", "name", "split", "data_files", "revision", "shards_idx"))


def _templates(recipe: Recipe) -> Iterator[Problem]:
    """Names of chat templates that nobody has, and those that stand for the tokenizer's own."""
    named: list[tuple[KeyPath, Any]] = [(("chat_template",), recipe["chat_template"])]
    for path in ("datasets", "test_datasets"):
        for index, entry in enumerate(recipe[path] or ()):
            named.append(((path, index, "chat_template"), entry.get("chat_template")))
    for place, name in named:
        if name in (None, "tokenizer_default", "jinja"):
            continue
        from core.data.chat_templates import FAMILIES, NAMED, known_template

        if name in FAMILIES:
            message = f"chat_template {name!r} names a family of models: the tokenizer's own template is used"
            help = "set it to tokenizer_default, which says the same"
            yield Problem(message, key=place, at="value", severity="warning", help=help)
        elif not known_template(name):
            choices = ("tokenizer_default", "jinja", *NAMED)
            advice = did_you_mean(name, (*choices, *FAMILIES)) or f"it can be: {', '.join(choices)}"
            yield Problem(f"unknown chat_template {name!r}", key=place, at="value", help=advice)


def _texts(recipe: Recipe) -> Iterator[Problem]:
    if recipe["chat_template"] == "jinja" and not recipe["chat_template_jinja"]:
        message = "chat_template is 'jinja', and chat_template_jinja is not set"
        yield Problem(message, key=("chat_template",), at="value", help="put the template into chat_template_jinja")
    yield from _templates(recipe)
    if recipe["trust_remote_code"]:
        yield Problem(
            "trust_remote_code in a recipe does not switch it on: only who runs it can",
            key=("trust_remote_code",),
            severity="warning",
            help="add --trust-remote-code to the command if the model needs it and you trust its authors",
        )
