"""Files that are there whole or not at all: written beside their place, and moved there when all is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file (UTF-8) to write, which becomes `path` at the end; where anything goes wrong, nothing is left of it.

    Raises `OSError` where it cannot be written.
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            yield file
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all. Raises `OSError` where it cannot be written."""
    with whole_file(path) as file:
        file.write(text)
