"""A recipe: YAML text, its values, and where each of them stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import Position, Problem, RecipeError
from core.types import KeyPath

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Recipe:
    """A recipe's text and values.

    values: what the file (and `--set`) says; null entries are absent. defaults: what the schemas supply for keys that
    are absent; both are read by `recipe[key]`, which gives None for a key that is neither.
    positions: where each key path stands: `positions[path]` is (place of the key, place of the value); null entries
    keep theirs. overrides: the `--set` texts, in order. problems: found while reading (duplicate keys); `check_recipe`
    reports them with its own.
    """

    path: Path
    text: str
    values: Mapping[str, Any]
    positions: Mapping[KeyPath, tuple[Position, Position]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __getitem__(self, key: str) -> Any:
        value, default = self.values.get(key), self.defaults.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            return {**default, **value}
        return value if key in self.values else default

    def __contains__(self, key: str) -> bool:
        """Whether the recipe itself sets `key`."""
        return key in self.values


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply `--set` texts such as `datasets.0.path=x`.

    Raises `RecipeError` for a file that cannot be read as one map of keys, and for an override without a place to go.
    """
    path = Path(path)
    text = _read_text(path)
    try:
        return _parse(path, text, overrides)
    except RecipeError as error:
        error.recipe = Recipe(path, text, {}, overrides=tuple(overrides))
        raise


def _parse(path: Path, text: str, overrides: Sequence[str]) -> Recipe:
    from core.overrides import apply_overrides
    from core.yaml_nodes import read_tree

    file = str(path)
    tree = read_tree(text, file)
    start = Position(file, 1, 1)
    if tree.value is None:
        raise RecipeError(
            [Problem("the recipe is empty", position=start, help="start with 'base_model:' and 'datasets:'")]
        )
    if not isinstance(tree.value, dict):
        kind = "list" if isinstance(tree.value, list) else "single value"
        raise RecipeError(
            [
                Problem(
                    f"a recipe is a map of keys, this is a {kind}",
                    position=tree.positions[()][1],
                    help="write 'key: value' lines, such as 'base_model: ./my-model'",
                )
            ]
        )
    values, positions = apply_overrides(tree.value, tree.positions, overrides)
    return Recipe(path, text, _without_nulls(values), positions, overrides=tuple(overrides), problems=tree.problems)


def _read_text(path: Path) -> str:
    start = Position(str(path), 1, 1)

    def refuse(message: str, help: str, place: Position = start) -> RecipeError:
        return RecipeError([Problem(message, position=place, help=help)])

    try:
        size = path.stat().st_size
        if path.is_dir():
            raise refuse("this is a folder, not a recipe", f"name a file in it: {_recipes_in(path)}")
        if size > MAX_BYTES:
            raise refuse(f"the file has {size:,} bytes, a recipe at most {MAX_BYTES:,}", "is this a data file?")
        content = path.read_bytes()
    except FileNotFoundError:
        near = _recipes_in(path.parent)
        raise refuse("no such recipe", f"recipes in that folder: {near}" if near else "check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise refuse(f"the recipe cannot be read: {reason.lower()}", "check the path and its permissions") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        raise refuse(
            f"byte {content[error.start]:#04x} is not UTF-8",
            "save the file as UTF-8",
            Position(str(path), line, column),
        ) from None


def _recipes_in(folder: Path) -> str:
    """The YAML files of a folder, for help texts."""
    if not folder.is_dir():
        return ""
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in (".yml", ".yaml"))
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def _without_nulls(value: Any) -> Any:
    """Map entries that are null mean "unset" and go; a null inside a list stays, for the checker to refuse."""
    if isinstance(value, dict):
        return {key: _without_nulls(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [_without_nulls(entry) for entry in value]
    return value
