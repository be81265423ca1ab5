"""Writing new files: none that is there is touched."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.errors import UserError


def write_new(files: Mapping[Path, str]) -> None:
    """Write every file, with its folders; none of them, and a `UserError` that names them, where some exist already."""
    there = [str(path) for path in files if path.exists() or path.is_symlink()]
    if there:
        raise UserError(
            f"{', '.join(there)} {'is' if len(there) == 1 else 'are'} there already: nothing was written",
            help="choose another --output, or move what is there out of the way",
        )
    made: list[Path] = []
    try:
        for path, text in files.items():
            made += reversed([folder for folder in path.parents if not folder.exists()])
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                made.append(path)
                file.write(text)
    except BaseException as error:
        for place in reversed(made):
            with suppress(OSError):
                place.rmdir() if place.is_dir() else place.unlink()
        if not isinstance(error, OSError):
            raise
        raise UserError(
            f"{str(error.filename or path)!r} cannot be written: {error.strerror or error}",
            help="choose another --output",
        ) from error


def filled(template: str, **values: Any) -> str:
    """A template of this package with its places filled in."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    places = Environment(
        loader=PackageLoader("core.scaffold"), undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    return places.get_template(template).render(values)
