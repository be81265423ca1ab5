"""Problems as text: place, message, the line with a mark under the spot, help, and the counts."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.check.problems import located
from core.errors import Position, Problem
from core.overrides import COMMAND_LINE
from core.recipe import Recipe
from core.secrets import masked, masked_line, names_a_secret, secrets_in

_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "help": "\x1b[36m", "mark": "\x1b[1;31m"}
_RESET = "\x1b[0m"
_WIDTH = 110


def render_problems(problems: Sequence[Problem], recipe: Recipe, *, colour: bool | None = None) -> str:
    """All problems, each as `file:line:column: error: message`, its source line with carets and its help; then counts.

    colour: None decides by whether stderr is a terminal and NO_COLOR is unset.
    """
    if colour is None:
        colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    ordered = located(list(problems), recipe)
    texts = {str(recipe.path): recipe.text.splitlines()} if recipe.text else {}
    texts |= {file: source.text.splitlines() for file, source in recipe.sources.items()}
    lines = [line for text in texts.values() for line in text]
    secrets = secrets_in(recipe.values, [*lines, *recipe.overrides])
    blocks = [_render(problem, recipe, texts, secrets, colour) for problem in ordered]
    return "\n".join([*blocks, counts(ordered)])


def counts(problems: Sequence[Problem]) -> str:
    """`2 errors, 1 warning`."""
    parts = []
    for severity in ("error", "warning"):
        number = sum(problem.severity == severity for problem in problems)
        if number:
            parts.append(f"{number} {severity}{'s' if number > 1 else ''}")
    return ", ".join(parts) or "no problems"


def _render(problem: Problem, recipe: Recipe, texts: dict[str, list[str]], secrets: set[str], colour: bool) -> str:
    def paint(text: str, kind: str) -> str:
        return f"{_COLOURS[kind]}{text}{_RESET}" if colour else text

    secrets = secrets | _secrets_at(problem, recipe)

    def safe(text: str) -> str:
        return plain(masked(text, secrets))

    place = problem.position or Position(str(recipe.path), 1, 1)
    where = COMMAND_LINE if place.file == COMMAND_LINE else safe(str(place))
    lines = [f"{where}: {paint(f'{problem.severity}:', problem.severity)} {safe(problem.message)}"]
    # a key that is missing altogether has no line to show
    absent = len(problem.key) == 1 and problem.key not in recipe.positions
    source = "" if absent else _source_line(place, recipe, texts)
    if source.strip():
        name = source.partition("=")[0] if place.file == COMMAND_LINE and place.column == 1 else None
        source, start = masked_line(source, place.column - 1, secrets)
        shown, start, length = _window(source, start, None if name is None else len(name))
        lines += [f"    {shown}", f"    {' ' * start}{paint('^' * length, 'mark')}"]
    if place.file in recipe.sources and (chain := recipe.sources[place.file].chain):
        lines.append(f"    extended by {', '.join(f'{safe(entry.file)}:{entry.line}' for entry in chain)}")
    if problem.help:
        lines.append(f"    {paint('help:', 'help')} {safe(problem.help)}")
    return "\n".join(lines)


def _secrets_at(problem: Problem, recipe: Recipe) -> set[str]:
    """What stands at the problem's own key, however short, if the key is named like a secret."""
    value: Any = recipe.values
    for part in problem.key:
        keys: Any = value if isinstance(value, Mapping) else range(len(value)) if isinstance(value, list) else ()
        value = value[part] if part in keys else None
    name = next((str(part) for part in problem.key if names_a_secret(str(part))), "")
    return secrets_in(value, key=name, shortest=1)


def _source_line(place: Position, recipe: Recipe, texts: dict[str, list[str]]) -> str:
    if place.file == COMMAND_LINE:
        return recipe.overrides[place.line - 1] if place.line <= len(recipe.overrides) else ""
    if place.file not in texts:
        path = Path(place.file)
        texts[place.file] = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    lines = texts[place.file]
    return lines[place.line - 1] if 0 < place.line <= len(lines) else ""


def _window(line: str, start: int, mark: int | None) -> tuple[str, int, int]:
    """The line cut to a readable width around `start`, where the mark goes in it, and how long it is (by default as
    long as the key or value that begins there)."""
    start = min(start, len(line))
    length = max(1, _token_length(line[start:]) if mark is None else mark)
    offset = max(0, start - 40) if len(line) > _WIDTH else 0
    shown = plain(line[offset : offset + _WIDTH])
    return shown, start - offset, max(1, min(length, len(shown) - (start - offset)))


def _token_length(rest: str) -> int:
    """How far the key or value at the start of `rest` reaches."""
    if rest[:1] in ("'", '"'):
        end = rest.find(rest[0], 1)
        return end + 1 if end > 0 else len(rest.rstrip())
    if rest[:1] in ("[", "{"):
        closing = rest.rfind("]" if rest[0] == "[" else "}")
        return closing + 1 if closing > 0 else len(rest.rstrip())
    found = re.match(r"[^,\]}#:]*(?:[:,#](?=\S)[^,\]}#:]*)*", rest)
    return len((found.group() if found else "").rstrip())


def plain(text: str) -> str:
    """Text without characters that would move the cursor or hide what is there."""
    return "".join(char if char.isprintable() else " " if char in "\t\n\r" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
