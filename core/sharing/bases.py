"""`extends`: the files that a recipe is written on top of, read and merged, each problem told at its own place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.errors import Position, Problem, RecipeError, UserError
from core.sharing.addresses import Located, locate
from core.sharing.layers import Layer, merge, without
from core.types import KeyPath
from core.yaml_nodes import Tree, read_tree

if TYPE_CHECKING:
    from core.recipe import Source

EXTENDS = "extends"
MAX_DEPTH = 10
MAX_FILES = 50


def resolve(source: Source, sources: dict[str, Source]) -> Layer:
    """The values of `source` over those of all its bases; every file that is read goes into `sources`.

    Raises `RecipeError` with every problem of every file that cannot be read, and with circles of bases.
    """
    reading = _Reading(sources)
    layer = reading.layer(source, (source.identity,))
    if layer is None or reading.problems:
        raise RecipeError(reading.problems)
    return layer


class _Reading:
    """The files read so far, and what is wrong with them."""

    def __init__(self, sources: dict[str, Source]) -> None:
        self.sources = sources
        self.problems: list[Problem] = []
        self.finished: dict[str, Layer | None] = {}

    def layer(self, source: Source, stack: tuple[str, ...]) -> Layer | None:
        """`source` merged over its bases; None if it cannot be read. stack: the files being read, this one last."""
        try:
            tree = read_tree(source.text, source.file)
            own = _own_layer(tree, source.file)
        except RecipeError as error:
            self.problems += error.problems
            return None
        merged: Layer | None = None
        for asked, key in self._asked(tree):
            place = tree.positions[key][1]
            base = self._base(asked, place, source, stack)
            if base is not None:
                merged = base if merged is None else merge(merged, base)
        return own if merged is None else merge(merged, own)

    def _base(self, asked: Any, place: Position, source: Source, stack: tuple[str, ...]) -> Layer | None:
        """The merged layer of one entry of `extends`, which stands at `place` of `source`."""
        try:
            located = locate(asked, source)
            self._refuse_circle(located, stack)
            if located.identity in self.finished:
                return self.finished[located.identity]
            base = replace(located.read(), chain=(place, *source.chain))
        except RecipeError as error:  # what was found is no recipe text: told there, and where it was asked for
            found = error.problems[0].position or place
            self.sources.setdefault(found.file, _unread(source, found.file, place))
            self.problems += error.problems
            return None
        except UserError as error:
            self.problems.append(Problem(error.message, help=error.help, position=place))
            return None
        self.sources.setdefault(base.file, base)
        self.finished[located.identity] = self.layer(base, (*stack, located.identity))
        return self.finished[located.identity]

    def _refuse_circle(self, located: Located, stack: tuple[str, ...]) -> None:
        if located.identity in stack:
            circle = [*stack[stack.index(located.identity) :], located.identity]
            names = " → ".join(self._name(identity, located) for identity in circle)
            raise UserError(f"a recipe cannot extend itself: {names}", help="remove one of these `extends`")
        if len(stack) > MAX_DEPTH:
            names = " → ".join(self._name(identity, located) for identity in (*stack, located.identity))
            raise UserError(
                f"bases nest more than {MAX_DEPTH} deep: {names}", help="extend the files that are needed directly"
            )
        if len(self.finished) >= MAX_FILES and located.identity not in self.finished:
            raise UserError(f"a recipe of more than {MAX_FILES} files", help="put shared keys into fewer files")

    def _name(self, identity: str, located: Located) -> str:
        known = {source.identity: source.file for source in self.sources.values()}
        return known.get(identity, located.file)

    def _asked(self, tree: Tree) -> Iterator[tuple[Any, KeyPath]]:
        """The entries of `extends`, in order, with the path of each; what is no address is told and left out."""
        value = tree.value.get(EXTENDS)
        entries = value if isinstance(value, list) else [value] if value is not None else []
        for index, entry in enumerate(entries):
            key: KeyPath = (EXTENDS, index) if isinstance(value, list) else (EXTENDS,)
            if isinstance(entry, (str, dict)) and entry:
                yield entry, key
            else:
                message = f"'extends' names no recipe: {entry!r} is neither an address nor a map with one"
                help = "write a file, package://…, hf://…@<commit>, or {url: https://…, sha256: …}"
                self.problems.append(Problem(message, help=help, position=tree.positions[key][1]))


def _own_layer(tree: Tree, file: str) -> Layer:
    if tree.value is None:
        help = "start with 'base_model:' and 'datasets:'"
        raise RecipeError([Problem("the recipe is empty", position=Position(file, 1, 1), help=help)])
    if not isinstance(tree.value, dict):
        kind = "list" if isinstance(tree.value, list) else "single value"
        problem = Problem(
            f"a recipe is a map of keys, this is a {kind}",
            position=tree.positions[()][1],
            help="write 'key: value' lines, such as 'base_model: ./my-model'",
        )
        raise RecipeError([problem])
    return without(Layer(tree.value, tree.positions, tree.problems), EXTENDS)


def _unread(source: Source, file: str, place: Position) -> Source:
    return replace(source, file=file, text="", chain=(place, *source.chain))
