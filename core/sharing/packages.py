"""Recipes in installed packages: `package://name/file`, and `name:recipe` through the entry points `tunesmith.recipes`.

A package is found without running any code of it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from core.errors import UserError

PACKAGE_SCHEME = "package://"
GROUP = "tunesmith.recipes"
OWN_NAME = "tunesmith"
SUFFIXES = (".yml", ".yaml")
PACKAGED = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*):(?P<recipe>\w[\w.-]*)")


@dataclass(frozen=True)
class RecipePackage:
    """A package of recipes. folder: where its recipes lie, or None where `package` cannot be found. root: the folder of
    the package as a whole, which its recipes may not leave."""

    name: str
    package: str
    distribution: str
    version: str
    folder: Path | None
    root: Path | None

    def recipes(self) -> dict[str, Path]:
        """Its recipes by name, sorted."""
        if self.folder is None:
            return {}
        files = sorted(entry for entry in self.folder.iterdir() if entry.suffix in SUFFIXES and entry.is_file())
        return {file.stem: file for file in files}


def package_file(text: str) -> tuple[Path, Path]:
    """The recipe at `package://name/file`, and the package's folder. Raises `UserError` for what is not there."""
    package, _, inside = text.removeprefix(PACKAGE_SCHEME).partition("/")
    if not package.isidentifier() or not inside:
        raise UserError(
            f"{text!r} is no address in a package", help="write package://<import name of the package>/<file>.yml"
        )
    if ".." in Path(inside).parts or Path(inside).is_absolute():
        raise UserError(f"{text!r} points outside the package {package!r}", help="name a file inside the package")
    roots = _folders(package)
    if not roots:
        raise UserError(
            f"{text!r}: the package {package!r} is not installed",
            help=f"install it: pip install {package.replace('_', '-')}",
        )
    for root in roots:
        if (root / inside).is_file():
            return root / inside, root
    listed = sorted(
        str(file.relative_to(root)) for root in roots for file in root.rglob("*") if file.suffix in SUFFIXES
    )
    has = f"it has: {', '.join(listed[:8])}" if listed else f"the package {package!r} holds no recipe"
    raise UserError(f"{text!r}: the package {package!r} has no file {inside!r}", help=has)


def recipe_packages() -> tuple[RecipePackage, ...]:
    """Our own recipes, then those of every installed package, by name.

    Raises `UserError` where two distributions claim one name.
    """
    from importlib.metadata import entry_points

    from core import __version__

    # beside this package, installed or not; a folder of this name in the working folder must not stand in for it
    own = Path(__file__).parents[2] / "recipes"
    found = {OWN_NAME: RecipePackage(OWN_NAME, "recipes", OWN_NAME, __version__, own, own)}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        distribution, version = (entry.dist.name, entry.dist.version) if entry.dist else (entry.value, "")
        claimed = found.get(entry.name)
        if claimed is None:
            package, *inner = entry.value.split(".")
            root = next(iter(_folders(package)), None) if package.isidentifier() else None
            folder = root.joinpath(*inner) if root else None
            folder = folder if folder and folder.is_dir() else None
            found[entry.name] = RecipePackage(entry.name, entry.value, distribution, version, folder, root)
        elif claimed.distribution != distribution:
            raise UserError(
                f"two packages of recipes are called {entry.name!r}: "
                f"one from {claimed.distribution}, one from {distribution}",
                help="uninstall one of the two distributions",
            )
    return tuple(found.values())


def looks_packaged(text: str) -> bool:
    """Whether `text` has the form `package:recipe`."""
    return PACKAGED.fullmatch(text) is not None and not text.endswith(SUFFIXES)


def find_packaged(text: str) -> tuple[Path, Path | None] | None:
    """File and package folder of `package:recipe`; None for text that is no such name, or is a file here.

    Raises `UserError` where no package has the recipe.
    """
    parts = PACKAGED.fullmatch(text)
    if parts is None or not looks_packaged(text) or Path(text).exists():
        return None
    packages = {package.name: package for package in recipe_packages()}
    package = packages.get(parts["name"])
    if package is None:
        raise UserError(f"no package of recipes is called {parts['name']!r}", help=_near(parts["name"], packages))
    recipes = package.recipes()
    if parts["recipe"] not in recipes:
        if package.folder is None:
            message = f"{package.distribution} says that its recipes are in {package.package!r}, which is not there"
            raise UserError(message, help=f"install it again: pip install --force-reinstall {package.distribution}")
        raise UserError(
            f"the package {package.name!r} has no recipe {parts['recipe']!r}", help=_near(parts["recipe"], recipes)
        )
    return recipes[parts["recipe"]], package.root


def describe(file: Path) -> str:
    """What a recipe says about itself: its first comment line, or nothing."""
    for line in _comments(file):
        if line and not line.startswith(("yaml-language-server:", "!")):
            return line
    return ""


def _comments(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                return
            yield line.lstrip("#").strip()


def _folders(package: str) -> list[Path]:
    """The folders of a top-level package; none where it is not installed. Reads no code of the package."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return []
    return [Path(location) for location in (spec.submodule_search_locations or ())] if spec else []


def _near(word: str, known: dict[str, object] | dict[str, Path] | dict[str, RecipePackage]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    listed = f"there are: {', '.join(known)}" if known else "it holds no recipe"
    return f"did you mean {near[0]!r}? {listed}" if near else f"{listed}; `tunesmith recipes` lists them"
