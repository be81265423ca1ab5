"""A recipe: YAML text, its values, and where each of them stands."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import Position, Problem, RecipeError
from core.types import KeyPath


@dataclass(frozen=True)
class Source:
    """One of the files that a recipe is made of.

    file: what messages call it, as in `Position.file`. folder: where its relative paths start; None for a file that was
    fetched and has no folder here. root: the package it came in, which its paths may not leave. address: what was asked
    for, where that is not a path. chain: the `extends` entries that led here, the nearest first.
    """

    file: str
    text: str
    folder: Path | None
    root: Path | None = None
    address: str | None = None
    chain: tuple[Position, ...] = ()

    @property
    def identity(self) -> str:
        """The same for the same file, however it was addressed."""
        return self.address or os.path.realpath(self.file)

    @property
    def contained(self) -> bool:
        """Whether the file came from elsewhere, and so may not name files of this machine."""
        return self.root is not None or self.folder is None


@dataclass(frozen=True)
class Recipe:
    """A recipe's text and values.

    values: what the file, its bases and `--set` say; null entries are absent. defaults: what the schemas supply for
    keys that are absent; both are read by `recipe[key]`, which gives None for a key that is neither.
    positions: where each key path stands: `positions[path]` is (place of the key, place of the value); null entries
    keep theirs. overrides: the `--set` texts, in order. problems: found while reading (duplicate keys); `check_recipe`
    reports them with its own. sources: the files read, this one and its bases, by the name that positions give them.
    written: the text with `${NAME}` in it, for each value in which a variable was replaced.
    """

    path: Path
    text: str
    values: Mapping[str, Any]
    positions: Mapping[KeyPath, tuple[Position, Position]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    written: Mapping[KeyPath, str] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        value, default = self.values.get(key), self.defaults.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            return {**default, **value}
        return value if key in self.values else default

    def __contains__(self, key: str) -> bool:
        """Whether the recipe itself sets `key`."""
        return key in self.values

    def place_of(self, path: KeyPath) -> Position | None:
        """Where the value at `path` stands, or the nearest one around it; None for a default."""
        for length in range(len(path), 0, -1):
            if places := self.positions.get(path[:length]):
                return places[1]
        return None

    def source_of(self, path: KeyPath) -> Source | None:
        """The file in which the value at `path` stands; None for one that `--set` or a default gives."""
        place = self.place_of(path)
        return self.sources.get(place.file) if place else None

    def folder_of(self, path: KeyPath) -> Path:
        """Where the relative path at `path` starts: beside the file that wrote it, or in the working folder for `--set`
        and for a file that was fetched."""
        from core.overrides import COMMAND_LINE

        place = self.place_of(path)
        if place and place.file == COMMAND_LINE:
            return Path()
        source = self.sources.get(place.file) if place else None
        return (source.folder or Path()) if source else self.path.parent

    def written_values(self) -> dict[str, Any]:
        """The values with `${NAME}` where the recipe has it: what outputs may hold."""
        from core.sharing.variables import written_values

        return written_values(self)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or `package:recipe` of an installed recipe package; merge it over what it extends, and apply
    `--set` texts such as `datasets.0.path=x`.

    Raises `RecipeError` for a file that cannot be read as one map of keys, and for an override without a place to go.
    """
    from core.sharing.files import read_text
    from core.sharing.packages import find_packaged

    packaged = find_packaged(str(path))
    path, root = packaged or (Path(path), None)
    source = Source(str(path), read_text(path, str(path)), path.parent, root)
    sources = {source.file: source}
    try:
        return _merged(path, source, sources, overrides)
    except RecipeError as error:
        error.recipe = Recipe(path, source.text, {}, overrides=tuple(overrides), sources=sources)
        raise


def _merged(path: Path, source: Source, sources: dict[str, Source], overrides: Sequence[str]) -> Recipe:
    """The recipe; every file that is read is added to `sources`, so that problems can be shown where they stand."""
    from core.overrides import COMMAND_LINE, apply_overrides
    from core.sharing.bases import EXTENDS, resolve

    layer = resolve(source, sources)
    for number, override in enumerate(overrides, start=1):
        if override.partition("=")[0].split(".")[0].strip() == EXTENDS:
            raise RecipeError(
                [
                    Problem(
                        "'extends' cannot be set on the command line",
                        position=Position(COMMAND_LINE, number, 1),
                        help="write a recipe that extends both",
                    )
                ]
            )
    values, positions = apply_overrides(layer.values, layer.positions, overrides)
    return Recipe(
        path,
        source.text,
        without_nulls(values),
        positions,
        overrides=tuple(overrides),
        problems=layer.problems,
        sources=sources,
    )


def without_nulls(value: Any) -> Any:
    """Map entries that are null mean "unset" and go; a null inside a list stays, for the checker to refuse."""
    if isinstance(value, dict):
        return {key: without_nulls(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [without_nulls(entry) for entry in value]
    return value
