"""Files that a command writes because its command line asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UserError
from core.whole_file import write_whole


def check_target(flag: str, path: Path, spare: Iterable[Path] = ()) -> None:
    """Raise `UserError` where `path`, which `flag` names, has no folder or is one of `spare`: what a command reads."""
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {str(path.parent)!r} to write {path.name} to", help="make it first")
    if path.is_file() and any(read.is_file() and path.samefile(read) for read in spare):
        raise UserError(f"{flag} {str(path)!r} would overwrite what this command reads", help="name another file")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within: `path` is written. Raises `UserError` where it cannot be."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{str(path)!r} cannot be written: {(error.strerror or str(error)).lower()}",
            help="name a file in a folder that exists and can be written",
        ) from error


def write_file(path: Path, text: str) -> None:
    """Write `path` whole or not at all. Raises `UserError` where it cannot be written."""
    with writing(path):
        write_whole(path, text)
