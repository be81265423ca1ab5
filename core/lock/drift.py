"""What is no longer as a lock says: every difference at once, each at its place in the lock."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.errors import Problem, UserError
from core.lock.environment import installed_version, installed_versions
from core.lock.hashes import text_hash
from core.lock.read import RECIPE, Lock
from core.types import KeyPath

# section of the lock -> kind of drift, as --allow-drift names it
KINDS: Mapping[str, str] = {
    RECIPE: "recipe",
    "defaults": "recipe",
    "base_model": "model",
    "data": "data",
    "files": "data",
    "tokenizer": "tokenizer",
    "chat_template": "tokenizer",
    "tunesmith": "packages",
    "python": "packages",
    "plugins": "packages",
    "packages": "packages",
    "hardware": "hardware",
}
_HELP: Mapping[str, str] = {
    "recipe": "leave the key as the lock has it, or run the recipe without --locked for a new lock",
    "model": "get the model as it was",
    "data": "get the file as it was",
    "tokenizer": "it follows from the model, the recipe, and the versions of transformers and tokenizers",
    "hardware": "the last digits of a result depend on it",
}
_SHA256 = 64
_NOTHING = "not there"


def drift(lock: Lock, now: Mapping[str, Any], free: Collection[KeyPath] = ()) -> list[Problem]:
    """A problem for every difference between the lock and what is there now, in the order of the lock.

    now: a record of this run; of packages, those in the lock are looked up. free: places of the recipe that may differ,
    such as paths, whose files are compared instead.
    """
    now = {**now, "packages": installed_versions(lock.values["packages"])}
    # a key set in one of the two and left out in the other is told once, not as a default as well
    moved = set(lock.values[RECIPE]) ^ set(now[RECIPE])
    return [
        _problem(lock, path, before, after)
        for section in KINDS
        for path, before, after in _differences(lock, section, now.get(section))
        if not (section == RECIPE and path[1:] in free) and not (section == "defaults" and path[1] in moved)
    ]


def software_drift(lock: Lock) -> list[Problem]:
    """Differences in versions alone: they may be why the recipe in the lock is refused here."""
    plugins = {
        name: {**entry, "version": installed_version(entry["distribution"])}
        for name, entry in lock.values["plugins"].items()
    }
    sections = {
        "tunesmith": {**lock.values["tunesmith"], "version": installed_version("tunesmith")},
        "python": platform.python_version(),
        "plugins": plugins,
        "packages": installed_versions(lock.values["packages"]),
    }
    return [
        _problem(lock, path, before, after)
        for section, now in sections.items()
        for path, before, after in _differences(lock, section, now)
    ]


def base_drift(lock: Lock) -> list[Problem]:
    """A warning for every local file that the recipe extended and that has changed: the lock has its values."""
    return [
        Problem(
            f"{file}, which the recipe extends, has changed since the run",
            help="the values that the lock has are used",
            severity="warning",
            position=lock.place_of(("extends", file)),
        )
        for file, before in (lock.values.get("extends") or {}).items()
        if _changed((lock.source.folder or Path()) / file, file, before)
    ]


def _changed(path: Path, file: str, before: str) -> bool:
    from core.sharing.files import read_text

    if "://" in file or not path.is_file():
        return False
    try:
        return text_hash(read_text(path, file)) != before
    except UserError:
        return True


def _differences(lock: Lock, section: str, now: Any) -> Iterator[tuple[KeyPath, Any, Any]]:
    """(place, locked value, present value) of everything in a section that is not the same."""
    before, after = dict(_leaves(lock.values.get(section), (section,))), dict(_leaves(now, (section,)))
    for path in dict.fromkeys([*before, *after]):
        was, is_ = before.get(path, _NOTHING), after.get(path, _NOTHING)
        if was != is_ or isinstance(was, bool) != isinstance(is_, bool):
            yield path, was, is_


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Every plain value below `value`, by its place."""
    if isinstance(value, (Mapping, list, tuple)):
        for key, entry in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _leaves(entry, (*path, key))
    else:
        yield path, value


def _problem(lock: Lock, path: KeyPath, before: Any, after: Any) -> Problem:
    kind = KINDS[str(path[0])]
    help = _version_help(lock, path, before) if kind == "packages" else _HELP[kind]
    if path == ("hardware", "threads"):
        help = f"export TUNESMITH_NUM_THREADS={before}"
    return Problem(
        _message(path, before, after),
        help=f"{help}; --allow-drift {kind} runs all the same",
        severity="warning" if kind in lock.allowed else "error",
        position=lock.place_of(path),
    )


def _message(path: KeyPath, before: Any, after: Any) -> str:
    name = _name(path)
    if _NOTHING not in (before, after):
        if path[-1] == "code":
            return f"the code of {name} has been changed since the run"
        if _is_hash(before) and _is_hash(after):
            return f"{name} has changed: its sha256 is {after[:12]}…, the run used {before[:12]}…"
    if before == _NOTHING:
        return f"{name} is new: the run had none"
    return f"{name} is {_shown(after)}, the run used {_shown(before)}"


def _name(path: KeyPath) -> str:
    """What a place of the lock is called in a message."""
    match path:
        case ("recipe", *rest):
            return repr(".".join(map(str, rest)))
        case ("defaults", *rest):
            return f"the default of {'.'.join(map(str, rest))!r}"
        case ("data", key, "files", file) | ("files", key, file):
            return f"{file!r} of {key}"
        case ("data" | "files", key, *_):
            return f"what {key} names"
        case ("base_model", "files", file):
            return f"{file!r} of the base model"
        case ("plugins", name, *_):
            return f"the plugin {name!r}"
        case ("packages" | "hardware", name):
            return str(name).replace("_", " ") if path[0] == "hardware" else str(name)
        case ("base_model" | "tokenizer" | "chat_template", *_):
            return f"the {str(path[0]).replace('_', ' ')}"
        case _:
            return str(path[0])


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == _SHA256


def _shown(value: Any) -> str:
    if _is_hash(value):
        return f"one of sha256 {value[:12]}…"
    return value if isinstance(value, str) else "unknown" if value is None else repr(value)


def _version_help(lock: Lock, path: KeyPath, before: Any) -> str:
    if path[0] == "python":
        return f"use Python {before}"
    if path[-1] == "code":
        return "install it again in the state that the run used"
    name = path[1] if path[0] == "packages" else "tunesmith"
    if path[0] == "plugins":
        name = lock.values["plugins"].get(path[1], {}).get("distribution", path[1])
    return f"pip install {name}=={before}" if before != _NOTHING else "run the recipe without --locked for a new lock"
