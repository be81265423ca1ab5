"""Jinja templates of the report, kept beside the code in templates/."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import jinja2


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        autoescape=lambda name: bool(name) and ".html" in str(name),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(name: str, **values: Any) -> str:
    """The template `name` filled with `values`; HTML templates escape every value."""
    return _environment().get_template(name).render(**values)


def source(name: str) -> str:
    """The text of a file beside the templates, such as the page's style sheet."""
    return files("core.report").joinpath("templates", name).read_text(encoding="utf-8")
