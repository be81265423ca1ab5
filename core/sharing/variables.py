"""`${NAME}` in recipes: replaced where the schema of a key allows it, and never told to the outputs of a run.

A key's schema says `"x-env": true` where variables are replaced, `"x-env": false` where the text may hold `${…}` and is
left as it is; elsewhere they are refused.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.secrets import holds_a_secret, names_a_secret
from core.types import KeyPath, Schema

if TYPE_CHECKING:
    from core.errors import Problem
    from core.recipe import Recipe

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MARK = "${"
_SHORTEST = 4  # shorter values say too little to be worth hiding in texts of other origin


def expand(recipe: Recipe, schema: Schema) -> Recipe:
    """The recipe with variables replaced where `schema` allows it; what is not set stays as written.

    A value that came from a variable is not looked at again, whatever it holds.
    """
    written: dict[KeyPath, str] = {}
    values = dict(recipe.values)
    for path, text in _marked_texts(recipe):
        if _schema_at(schema, path).get("x-env") is True and not _refusal(path, text):
            written[path] = text
            _put(values, path, VARIABLE.sub(lambda found: os.environ[found[1]], text))
    return replace(recipe, values=values, written={**recipe.written, **written}) if written else recipe


def variable_problems(recipe: Recipe, schema: Schema) -> Iterator[Problem]:
    """An error for every variable that is not set, or stands where none is allowed."""
    from core.errors import Problem

    for path, text in _marked_texts(recipe):
        allowed = _schema_at(schema, path)
        name = ".".join(map(str, path))
        if allowed.get("x-env") is True:
            if found := _refusal(path, text):
                yield Problem(found[0], key=path, at="value", help=found[1])
        elif allowed and "x-env" not in allowed and VARIABLE.search(text):
            shown = _MARK + str(VARIABLE.findall(text)[0]) + "}"
            help = "variables are for paths, addresses and names of trackers; write the value out, or use --set"
            yield Problem(f"{shown} is not allowed in {name!r}", key=path, at="value", help=help)


def _marked_texts(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Every text of the recipe that holds `${` and was not replaced before."""
    for path, text in texts_in(recipe.values, ()):
        if _MARK in text and path not in recipe.written:
            yield path, text


def written_values(recipe: Recipe) -> dict[str, Any]:
    """The values with `${NAME}` where the recipe has it."""
    values = copy.deepcopy(dict(recipe.values))
    for path, text in recipe.written.items():
        if _get(values, path) is not None:
            _put(values, path, text)
    return values


def hide(value: Any, recipe: Recipe) -> Any:
    """`value` with what variables brought into the recipe replaced by `${NAME}` in every text of it.

    For outputs that tell of paths: absolute and relative forms of one are hidden alike.
    """
    forms = _forms(recipe)
    return _hidden(value, forms) if forms else value


def _refusal(path: KeyPath, text: str) -> tuple[str, str] | None:
    """Message and help where the variables of `text` cannot be replaced, at a key that allows them."""
    names = VARIABLE.findall(text)
    if text.count(_MARK) != len(names):
        return f"{text!r} holds '${{' that begins no variable", "write ${NAME}, with letters, digits and _ in the name"
    for name in names:
        if holds_a_secret(name) and not names_a_secret(str(path[-1])):
            message = f"the variable {name} is named like a secret, {'.'.join(map(str, path))!r} is not kept secret"
            return message, "keep secrets out of recipes: trackers and hubs read them from the environment themselves"
        if not os.environ.get(name):
            state = "empty" if name in os.environ else "not set"
            return f"the environment variable {name} is {state}", f"set it: export {name}=…"
    return None


def _forms(recipe: Recipe) -> list[tuple[re.Pattern[str], str]]:
    forms: dict[str, str] = {}
    for path, text in recipe.written.items():
        value = _get(recipe.values, path)
        if not isinstance(value, str):
            continue
        for folder in (recipe.folder_of(path), "."):
            absolute = os.path.abspath(os.path.join(folder, os.path.expanduser(value)))
            forms.update({value: text, absolute: text, os.path.relpath(absolute): text})
        # a part of a path says as much as the whole: the name of its folder
        folders = {os.environ.get(name, ""): f"${{{name}}}" for name in VARIABLE.findall(text)}
        forms = {**{held: name for held, name in folders.items() if os.sep in held}, **forms}
    longest_first = sorted((form for form in forms if len(form) >= _SHORTEST), key=len, reverse=True)
    return [(re.compile(rf"(?<!\w){re.escape(form)}(?!\w)"), forms[form]) for form in longest_first]


def _hidden(value: Any, forms: list[tuple[re.Pattern[str], str]]) -> Any:
    if isinstance(value, str):
        for form, text in forms:
            value = form.sub(text.replace("\\", r"\\"), value)
        return value
    if isinstance(value, Mapping):
        return {key: _hidden(entry, forms) for key, entry in value.items()}
    return [_hidden(entry, forms) for entry in value] if isinstance(value, (list, tuple)) else value


def texts_in(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Every text inside `value`, with its key path below `path`."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from texts_in(entry, (*path, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from texts_in(entry, (*path, index))


def _schema_at(schema: Schema, path: KeyPath) -> Schema:
    from core.check.schema import schema_at

    return schema_at(schema, path)


def _get(values: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _put(values: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Set the value at `path`, with the maps and lists on the way copied."""
    here: Any = values
    for part in path[:-1]:
        here[part] = dict(here[part]) if isinstance(here[part], Mapping) else list(here[part])
        here = here[part]
    here[path[-1]] = value
