"""Files that a command writes because its command line asks for them."""

from __future__ import annotations

import os
from pathlib import Path

from core.errors import UserError


def write_file(path: Path, text: str) -> None:
    """Write `path` whole or not at all. Raises `UserError` where it cannot be written."""
    partial = path.with_name(f".partial-{path.name}")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(
            f"{str(path)!r} cannot be written: {(error.strerror or str(error)).lower()}",
            help="name a file in a folder that exists and can be written",
        ) from error
