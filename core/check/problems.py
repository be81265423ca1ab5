"""Every problem of a recipe at once, in the order of its lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from jsonschema import Draft202012Validator

from core.check.columns import comparison_problems
from core.check.components import component_problems
from core.check.containment import escape_problems
from core.check.defaults import resolve_defaults, typed
from core.check.files import file_problems
from core.check.foreign import ForeignKeys
from core.check.owners import PICKED, taking_part, used_keys
from core.check.remote import address_problems
from core.check.requirements import requirement_problems
from core.check.schema import ITEM_LISTS, REQUIRED, fit_schema, schema_at
from core.check.scoring import scoring_problems
from core.check.streaming import streaming_problems
from core.check.wording import missing, not_finite, problems_of, unknown
from core.errors import Position, Problem, RecipeError
from core.host import KINDS, Host
from core.overrides import COMMAND_LINE
from core.recipe import Recipe
from core.sharing.variables import hide, variable_problems
from core.types import KeyPath, Schema


def check_recipe(recipe: Recipe, host: Host, *, files: bool = True) -> list[Problem]:
    """Errors and warnings of `recipe`, each with its position, sorted by where they stand; empty for a clean recipe.

    A recipe for another kind of job (preference tuning, images, ...) gets the one error that says so. The rules across
    keys, of core and of plugins, are asked only once every key is valid by itself.
    files: whether files that are not there, and packages that are not installed, are problems.
    """
    recipe = typed(recipe, host)
    foreign = ForeignKeys()
    job = foreign.other_job(recipe)
    if job:
        return located([*recipe.problems, job], recipe)
    schema = fit_schema(host, recipe.values)
    problems = [
        *recipe.problems,
        *_top_level(recipe, host, foreign),
        *_missing(recipe, host),
        *_violations(recipe, host, schema, foreign),
        *_unknown_nulls(recipe, schema, foreign),
        *component_problems(recipe, host, foreign),
        *foreign.plugin_problems(recipe),
        *escape_problems(recipe, schema),
    ]
    if files:
        problems += [*requirement_problems(recipe), *file_problems(recipe, host), *address_problems(recipe)]
    problems = _with_variables(problems, recipe, schema)
    if not any(problem.severity == "error" for problem in problems):
        resolved = resolve_defaults(recipe, host)
        found = [*host.check_recipe(resolved), *comparison_problems(resolved, host), *scoring_problems(resolved)]
        found += streaming_problems(resolved, host)
        problems += _with_variables(found, recipe, schema)
    return located(problems, recipe)


def valid_recipe(recipe: Recipe, host: Host) -> Recipe:
    """`recipe` itself if it means something by itself, whether or not its files and packages are here.

    Raises `RecipeError` with its problems if not.
    """
    errors = [problem for problem in check_recipe(recipe, host, files=False) if problem.severity == "error"]
    if errors:
        raise RecipeError(errors, recipe)
    return recipe


def _with_variables(problems: list[Problem], recipe: Recipe, schema: Schema) -> list[Problem]:
    """The problems together with those of variables; what a variable holds is shown as `${NAME}`."""
    unset = list(variable_problems(recipe, schema))
    at_variables = {problem.key for problem in unset}
    return unset + [
        replace(problem, message=hide(problem.message, recipe), help=hide(problem.help, recipe))
        for problem in problems
        if problem.key not in at_variables
    ]


def located(problems: list[Problem], recipe: Recipe) -> list[Problem]:
    """The problems, once each, with their positions filled in and sorted by them."""
    placed = [
        problem if problem.position else replace(problem, position=place_of(problem, recipe)) for problem in problems
    ]

    def order(problem: Problem) -> tuple[bool, str, int, int]:
        place = problem.position or Position("", 0, 0)
        return (
            place.file == COMMAND_LINE,
            "" if place.file == str(recipe.path) else place.file,
            place.line,
            place.column,
        )

    return sorted(dict.fromkeys(placed), key=order)


def place_of(problem: Problem, recipe: Recipe) -> Position:
    """Where a problem stands: at its key or value, at the nearest map around it, or at the top of the file."""
    for length in range(len(problem.key), 0, -1):
        places = recipe.positions.get(problem.key[:length])
        if places:
            exact = length == len(problem.key)
            return places[1] if problem.at == "value" and exact else places[0]
    return Position(str(recipe.path), 1, 1)


def _top_level(recipe: Recipe, host: Host, foreign: ForeignKeys) -> Iterator[Problem]:
    """Keys nobody here owns, and keys whose owner takes no part."""
    owners, used = taking_part(recipe, host), used_keys(recipe, host)
    for path in recipe.positions:
        if len(path) != 1:
            continue
        key = str(path[0])
        if key not in host.recipe_keys:
            if key not in foreign.keys:
                yield unknown(path, _all_keys(host, foreign))
            elif found := foreign.problem(path, recipe.values.get(key)):
                yield found
        elif key in recipe.values and host.key_owners[key] not in owners and key not in used:
            if recipe.values[key] in (False, [], {}):
                continue
            yield Problem(
                f"{key!r} has no effect in this run: it belongs to {_offers(host, host.key_owners[key])}",
                key=path,
                severity="warning",
                help=_how_to_use(host, host.key_owners[key]),
            )


def _missing(recipe: Recipe, host: Host) -> Iterator[Problem]:
    for key in REQUIRED:
        if key not in recipe.values:
            problem = missing((), key, host.recipe_keys.get(key, {}))
            # where the recipe says `base_model:` and nothing after it, that is the place to look
            empty = f"{key!r} is empty"
            yield replace(problem, message=empty) if (key,) in recipe.positions else problem


def _violations(recipe: Recipe, host: Host, schema: Schema, foreign: ForeignKeys) -> Iterator[Problem]:
    """What jsonschema finds in the keys that are known, one key at a time."""
    validator = Draft202012Validator({})
    for key, value in recipe.values.items():
        if key not in host.recipe_keys:
            continue
        infinite = list(not_finite(value, (key,)))
        yield from infinite
        if infinite:
            continue
        for error in validator.evolve(schema=schema["properties"][key]).iter_errors(value):
            path = (key, *error.absolute_path)
            for problem in problems_of(error, path, host.recipe_keys):
                yield from (
                    _item_key(problem, recipe, host, foreign)
                    if error.validator == "additionalProperties"
                    else [problem]
                )


def _item_key(problem: Problem, recipe: Recipe, host: Host, foreign: ForeignKeys) -> list[Problem]:
    """For a key that an entry of a component list does not take: what is known about it elsewhere, else `problem`."""
    *list_path, index, key = problem.key
    kind = ITEM_LISTS.get(tuple(list_path))
    if kind is None or not isinstance(index, int):
        return [problem]
    entry: Any = recipe.values
    for part in (*list_path, index):
        entry = entry[part]
    others = [name for name, component in getattr(host, kind.table).items() if key in component.options_schema]
    if others:
        message = f"{key!r} has no effect with type {entry['type']!r}, it is an option of {' and '.join(others[:3])}"
        return [Problem(message, key=problem.key, severity="warning")]
    if kind.table == "formats" and f"datasets[].{key}" in foreign.keys:
        found = foreign.problem(("datasets[]", key), entry[key], place=problem.key)
        return [found] if found else []
    return [problem]


def _all_keys(host: Host, foreign: ForeignKeys) -> dict[str, Any]:
    return {**foreign.keys, **host.recipe_keys}


def _unknown_nulls(recipe: Recipe, schema: Schema, foreign: ForeignKeys) -> Iterator[Problem]:
    """Unknown keys inside maps whose value is null: unset, but still nobody's key."""
    for path in recipe.positions:
        if len(path) < 2 or not isinstance(path[-1], str) or _holds(recipe.values, path):
            continue
        around = schema_at(schema, path[:-1])
        if around.get("additionalProperties") is False and path[-1] not in around.get("properties", {}):
            if isinstance(path[-2], int) and ("datasets[]." + path[-1]) in foreign.keys:
                continue
            yield unknown(path, around["properties"])


def _holds(values: Any, path: KeyPath) -> bool:
    for part in path:
        keys: Any = values if isinstance(values, Mapping) else range(len(values)) if isinstance(values, list) else ()
        if part not in keys:
            return False
        values = values[part]
    return True


def _offers(host: Host, owner: str) -> str:
    """What the plugin `owner` is picked by, for messages: `adapter lora or qlora`."""
    offers = _offered(host, owner)
    return next(
        (f"{KINDS[hook].word} {' or '.join(offers[hook])}" for hook in PICKED if offers.get(hook)), f"plugin {owner}"
    )


def _how_to_use(host: Host, owner: str) -> str:
    offers = _offered(host, owner)
    for hook, key in (("adapters", "adapter"), ("trainers", "trainer")):
        if offers.get(hook):
            return f"set '{key}: {offers[hook][0]}' to use it, or remove the key"
    return "remove the key"


def _offered(host: Host, owner: str) -> Mapping[str, tuple[str, ...]]:
    return next(plugin.offers for plugin in host.plugins if plugin.name == owner)
