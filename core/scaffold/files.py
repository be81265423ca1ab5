"""Writing new files: none that is there is touched."""

from __future__ import annotations

from collections.abc import Mapping
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
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise UserError(
            f"{str(error.filename)!r} cannot be written: {error.strerror or error}", help="choose another --output"
        ) from error


def filled(template: str, **values: Any) -> str:
    """A template of this package with its places filled in."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    places = Environment(
        loader=PackageLoader("core.scaffold"), undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    return places.get_template(template).render(values)
