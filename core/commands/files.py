"""Files that a command writes because its command line asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UserError
from core.whole_file import write_whole


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
