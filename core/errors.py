"""The two kinds of failure: the user's (explained, exit 2, no traceback) and ours (a traceback, exit 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from core.secrets import masked
from core.types import KeyPath

if TYPE_CHECKING:
    from core.recipe import Recipe


@dataclass(frozen=True)
class Position:
    """A place in a recipe file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """Something wrong (or worth a warning) in a recipe.

    key: the path of the key concerned, such as `("datasets", 0, "path")`; core finds the place from it.
    at: whether the caret belongs under the key or under its value. position: set it only when the key cannot tell.
    blocks_run: a warning of something that is missing on this machine: `check` passes, a run here is refused.
    """

    message: str
    key: KeyPath = ()
    help: str | None = None
    severity: Literal["error", "warning"] = "error"
    at: Literal["key", "value"] = "key"
    position: Position | None = None
    blocks_run: bool = False


class UserError(Exception):
    """Something the user can put right. Shown as `error: message` and `help: ...`; exit code 2, no traceback.

    Passwords in addresses, and tokens known by their form, are masked in both texts.
    """

    def __init__(self, message: str, *, help: str | None = None) -> None:
        message = masked(message)
        super().__init__(message)
        self.message = message
        self.help = None if help is None else masked(help)


class RecipeError(UserError):
    """One or more problems in a recipe, all of them. recipe: the one they are in, where it could be read."""

    def __init__(self, problems: Sequence[Problem], recipe: Recipe | None = None) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = tuple(problems)
        self.recipe = recipe


class PluginError(UserError):
    """A plugin that cannot be loaded, clashes with another, or breaks the rules of its hook."""


class DataError(UserError):
    """Data that cannot be read or cannot teach. The message names file and line wherever there is one."""


class RowError(ValueError):
    """Raised by a format for a row it cannot render; core adds file and line, and counts all bad rows first."""

    def __init__(self, message: str, *, field: str | None = None, help: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.help = help
