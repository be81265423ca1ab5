"""Recipe files as text: refused by size before they are read, and by what they are."""

from __future__ import annotations

import stat
from pathlib import Path

from core.errors import Position, Problem, RecipeError

MAX_BYTES = 1_000_000


def read_text(path: Path, file: str, *, regular: bool = False) -> str:
    """The text of a recipe file, which messages call `file`. Raises `RecipeError`, placed in that file.

    regular: refuse pipes and devices, which a recipe may not name though a person may.
    """

    def refuse(message: str, help: str) -> RecipeError:
        return RecipeError([Problem(message, position=Position(file, 1, 1), help=help)])

    try:
        status = path.stat()
        if path.is_dir():
            near = recipes_in(path)
            hint = f"name a file in it: {near}" if near else "name a .yml file; this folder has none"
            raise refuse("this is a folder, not a recipe", hint)
        if regular and not stat.S_ISREG(status.st_mode):
            raise refuse("this is a device or a pipe, not a recipe", "name a file")
        if status.st_size > MAX_BYTES:
            raise refuse(*too_large(status.st_size))
        with path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = recipes_in(path.parent)
        raise refuse("no such recipe", f"recipes in that folder: {near}" if near else "check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise refuse(f"the recipe cannot be read: {reason.lower()}", "check the path and its permissions") from None
    return decode(content, file)


def decode(content: bytes, file: str) -> str:
    """The bytes of a recipe as text. Raises `RecipeError` for too many of them, and at the first that is not UTF-8."""
    if len(content) > MAX_BYTES:
        message, help = too_large(len(content))
        raise RecipeError([Problem(message, position=Position(file, 1, 1), help=help)])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        problem = Problem(
            f"byte {content[error.start]:#04x} is not UTF-8",
            position=Position(file, line, column),
            help="save the file as UTF-8",
        )
        raise RecipeError([problem]) from None


def too_large(size: int) -> tuple[str, str]:
    """Message and help for a file of `size` bytes."""
    return f"the file has {size:,} bytes, a recipe at most {MAX_BYTES:,}", "is this a data file?"


def recipes_in(folder: Path) -> str:
    """The YAML files of a folder, for help texts."""
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in (".yml", ".yaml"))
    except (OSError, ValueError):  # no folder, or none that may be read
        return ""
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def exists(path: Path) -> bool:
    """Whether there is anything at `path`; no file system has what is no name there."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL character in it
        return False
