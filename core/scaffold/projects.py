"""New pip projects: a package of recipes, a plugin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.scaffold.files import filled
from core.scaffold.recipe import BASE_MODEL, example_rows

if TYPE_CHECKING:
    from core.host import Host

_TABLES = {"format": "formats", "adapter": "adapters", "trainer": "trainers", "evaluator": "evaluators"}
_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?")
PREFIX = "tunesmith-"


def recipe_package_files(name: str, folder: Path) -> dict[Path, str]:
    """The files of a package of recipes called `name`, with its tests."""
    _check_name(name)
    distribution, package = _distribution(name), _package(name)
    if package in ("core", "plugins", "recipes", "schemas", "tests"):
        raise UserError(f"{name!r} is the name of a package that tunesmith needs itself", help="choose another name")
    values = {"name": distribution, "package": package, "base_model": BASE_MODEL}
    rows = example_rows().splitlines(keepends=True)
    templates = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        "tests/test_recipes.py": "test_recipes.py",
        f"{package}/__init__.py": "__init__.py",
        f"{package}/lora.yml": "lora.yml",
        f"{package}/bases/lora.yml": "base.yml",
    }
    made = {folder / path: filled(f"recipe-package/{file}.j2", **values) for path, file in templates.items()}
    data = {"train.jsonl": rows[:-1], "test.jsonl": rows[-1:]}
    return made | {folder / package / "data" / file: "".join(lines) for file, lines in data.items()}


def plugin_files(name: str, kind: str, folder: Path, host: Host) -> dict[Path, str]:
    """The files of a plugin that offers one component `name` of the `kind`, with its tests."""
    _check_name(name)
    component = _package(name.removeprefix(PREFIX))
    if component in getattr(host, _TABLES[kind]):
        owner = next(
            (plugin for (_, offered), plugin in host.component_owners.items() if offered == component), "another plugin"
        )
        raise UserError(f"the {kind} {component!r} is there already: {owner} offers it", help="choose another name")
    distribution = _distribution(PREFIX + name.removeprefix(PREFIX))
    values = {"name": distribution, "package": _package(distribution), "component": component, "kind": kind}
    templates = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{values['package']}/__init__.py": f"{kind}.py",
        f"tests/test_{component}.py": f"test_{kind}.py",
    }
    return {folder / path: filled(f"plugin/{file}.j2", **values) for path, file in templates.items()}


def default_folder(name: str, kind: str | None) -> Path:
    """Where a project goes unless `--output` says otherwise: a folder with the distribution's name."""
    return Path(_distribution(name if kind is None else PREFIX + name.removeprefix(PREFIX)))


def _distribution(name: str) -> str:
    return name.lower().replace("_", "-")


def _package(name: str) -> str:
    return name.lower().replace("-", "_")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be a package's name", help="use letters, digits and -, with a letter first: team-med"
        )
