"""A lock file read back: its sections with their places, and the recipe in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import Position, Problem, RecipeError
from core.lock.record import FORMAT_VERSION
from core.overrides import COMMAND_LINE, apply_overrides
from core.recipe import Recipe, Source, without_nulls
from core.secrets import holds_a_mask
from core.types import KeyPath

LOCK_FILE = "recipe.lock.yml"
RECIPE = "recipe"
# the sections that have to be there, with what they are
_SHAPE: Mapping[str, type] = {
    RECIPE: dict,
    "defaults": dict,
    "base_model": dict,
    "data": dict,
    "files": dict,
    "tokenizer": dict,
    "tunesmith": dict,
    "plugins": dict,
    "packages": dict,
    "hardware": dict,
}


@dataclass(frozen=True)
class Lock:
    """A lock file. allowed: the kinds of drift that are told but do not stop the run."""

    source: Source
    values: Mapping[str, Any]
    positions: Mapping[KeyPath, tuple[Position, Position]]
    allowed: frozenset[str] = frozenset()

    def place_of(self, path: KeyPath) -> Position:
        """Where the value at `path` stands, or the nearest one around it."""
        for length in range(len(path), 0, -1):
            if places := self.positions.get(path[:length]):
                return places[1] if length == len(path) else places[0]
        return Position(self.source.file, 1, 1)


def load_lock(path: Path, allowed: Sequence[str] = ()) -> Lock:
    """Read a lock file. Raises `RecipeError` for a file that cannot be read, or is none."""
    from core.sharing.files import read_text
    from core.yaml_nodes import read_tree

    file = str(path)
    if path.is_dir():
        path, file = path / LOCK_FILE, str(path / LOCK_FILE)
    text = read_text(path, file)
    tree = read_tree(text, file)
    lock = Lock(Source(file, text, path.parent), tree.value or {}, tree.positions, frozenset(allowed))
    problems = [*tree.problems, *_shape_problems(lock)]
    if problems:
        raise RecipeError(problems, Recipe(path, text, {}, sources={file: lock.source}))
    return lock


def _shape_problems(lock: Lock) -> Iterator[Problem]:
    values, start = lock.values, Position(lock.source.file, 1, 1)
    if not isinstance(values, dict) or "lock_version" not in values:
        help = f"--locked takes the {LOCK_FILE} that a run writes into its output_dir; run a recipe without --locked"
        yield Problem("this is no lock file", position=start, help=help)
    elif values["lock_version"] != FORMAT_VERSION:
        yield Problem(
            f"the lock is of version {values['lock_version']!r}, this tunesmith reads {FORMAT_VERSION}",
            position=lock.place_of(("lock_version",)),
            help="use the version of tunesmith that the lock names",
        )
    else:
        for section, kind in _SHAPE.items():
            if not isinstance(values.get(section), kind):
                message = f"the section {section!r} of the lock is missing or damaged"
                yield Problem(message, position=lock.place_of((section,)), help="get an intact copy of the lock")


def locked_recipe(lock: Lock, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a lock, with `--set` texts applied.

    Raises `RecipeError` for an override without a place to go, and for secrets, which a lock never holds.
    """
    inside = {path[1:]: places for path, places in lock.positions.items() if path[:1] == (RECIPE,) and len(path) > 1}
    path, source = Path(lock.source.file), lock.source
    blank = Recipe(path, source.text, {}, overrides=tuple(overrides), sources={source.file: source})
    try:
        values, positions = apply_overrides(lock.values[RECIPE], inside, overrides)
        recipe = Recipe(path, source.text, values, positions, overrides=tuple(overrides), sources={source.file: source})
        if masked := list(_masked(recipe)):
            raise RecipeError(masked)
    except RecipeError as error:
        error.recipe = blank
        raise
    return replace(recipe, values=without_nulls(recipe.values))


def _masked(recipe: Recipe) -> Iterator[Problem]:
    for path, (_, place) in recipe.positions.items():
        value: Any = recipe.values
        for part in path:
            value = value[part]
        if holds_a_mask(value) and place.file != COMMAND_LINE:
            name = ".".join(map(str, path))
            help = f"give it again with --set {name}=…, or leave it out with --set {name}=null"
            yield Problem(f"{name!r} is a secret, which the lock does not hold", position=place, help=help)
