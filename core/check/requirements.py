"""What a recipe requires to be installed: distributions in their versions, and the command that brings them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from core.errors import Problem
from core.recipe import Recipe
from core.types import KeyPath

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OWN_DISTRIBUTION = "tunesmith"


def requirement_problems(recipe: Recipe) -> Iterator[Problem]:
    """An error for every entry of `requires` that is no requirement, is not installed, or not in a version it takes."""
    listed = recipe.values.get("requires")
    told: set[str] = set()
    for index, text in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(text, str) and text and text not in told:
            told.add(text)
            yield from _problems(text, ("requires", index))


def _problems(text: str, key: KeyPath) -> Iterator[Problem]:
    # a tenth of a second to import, for recipes that need it
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        help = "write a distribution and its versions, such as tunesmith>=0.3 or tunesmith-medqa~=1.2"
        yield Problem(f"{text!r} is no requirement", key=key, at="value", help=help)
        return
    if requirement.url:
        help = f"name it with its versions, such as {requirement.name}>=1.0"
        yield Problem(f"{text!r}: a requirement by address is not allowed", key=key, at="value", help=help)
    elif (requirement.marker is None or requirement.marker.evaluate()) and (found := _lacking(requirement)):
        help = f'install it: pip install "{requirement}"'
        yield Problem(f"the recipe requires {text!r}, {found}", key=key, at="value", help=help)


def _lacking(requirement: Requirement) -> str | None:
    """What is wrong with what is installed; None where it is as required, extras included."""
    from importlib.metadata import requires

    installed = _version(requirement.name)
    if installed is None:
        return f"and {requirement.name} is not installed"
    if not requirement.specifier.contains(installed, prereleases=True):
        return f"and {requirement.name} {installed} is installed"
    for extra in sorted(requirement.extras):
        missing = [name for name in _of_extra(requires(requirement.name) or [], extra) if _version(name) is None]
        if missing:
            return f"and {', '.join(missing)} of its extra {extra!r} is not installed"
    return None


def _of_extra(listed: list[str], extra: str) -> Iterator[str]:
    """The distributions that an extra brings."""
    from packaging.requirements import Requirement

    for needed in map(Requirement, listed):
        if needed.marker and needed.marker.evaluate({"extra": extra}) and not needed.marker.evaluate({"extra": ""}):
            yield needed.name


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    from core import __version__

    if distribution.lower() == OWN_DISTRIBUTION:
        return __version__
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
