"""Keys of other tools' recipes: what they do here, or why they do nothing. The table is schemas/axolotl-keys.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from core.errors import Problem
from core.recipe import Recipe
from core.schema_files import load_fragment
from core.types import KeyPath


class ForeignKeys:
    """The table of foreign keys, read when it is first needed."""

    @cached_property
    def keys(self) -> dict[str, dict[str, Any]]:
        """Key (`datasets[].key` inside data sets, `plugins[].name` for plugins) -> `effect`, `note` and `use`.

        effect: `acts` (does what it does there), `none` (known, changes nothing here), `dead` (changes nothing in
        axolotl either), `unsupported` (would change what is learnt), `job` (asks for another kind of training).
        harmless: entries of a map with a note each, with which alone the key changes nothing.
        """
        return dict(load_fragment("axolotl-keys"))

    def other_job(self, recipe: Recipe) -> Problem | None:
        """The error for a recipe that asks for another kind of job, at the first key that does."""
        for path in recipe.positions:
            key = str(path[0]) if path else ""
            if len(path) == 1 and not _is_off(recipe.values.get(key)):
                entry = self.keys.get(key)
                if entry and entry["effect"] == "job":
                    return Problem(
                        f"{key!r} asks for {entry['note']}, which is not supported", key=path, help=entry.get("use")
                    )
        return None

    def problem(self, path: KeyPath, value: Any, place: KeyPath | None = None) -> Problem | None:
        """What to say about a key of the table; None where there is nothing to say.

        A key that is switched off (null, false, 0) asks for what happens anyway, so only a dead one, which has no
        effect where it comes from either, is reported then.
        """
        entry = self.keys[".".join(map(str, path))]
        name = path[-1]
        harmless = entry.get("harmless")
        if harmless and isinstance(value, Mapping) and set(value) <= set(harmless):
            entry = {"effect": "none", "note": next(iter(harmless.values()))}
        note, use = entry.get("note", ""), entry.get("use")
        where = place or path
        if entry["effect"] == "dead":
            return Problem(
                f"{name!r} does nothing, nor does it in axolotl: {note}", key=where, severity="warning", help=use
            )
        if _is_off(value):
            return None
        if entry["effect"] in ("unsupported", "job"):
            return Problem(
                f"{name!r} is not supported: {note}", key=where, help=use or "remove the key to train without it"
            )
        return Problem(f"{name!r} has no effect here: {note}", key=where, severity="warning", help=use)

    def plugin_problems(self, recipe: Recipe) -> Iterator[Problem]:
        """What to say about the entries of `plugins`, which name code of another tool."""
        named = recipe.values.get("plugins")
        for index, name in enumerate(named if isinstance(named, list) else ()):
            entry = self.keys.get(f"plugins[].{name}")
            place: KeyPath = ("plugins", index)
            if entry is None:
                yield Problem(
                    f"unknown plugin {name!r}",
                    key=place,
                    at="value",
                    help="a recipe loads no code: install the plugin (see `tunesmith plugins`), and remove this line",
                )
            elif entry["effect"] == "acts":
                continue
            elif entry["effect"] == "none":
                message = f"{str(name).rpartition('.')[2]} is not loaded: {entry['note']}"
                yield Problem(message, key=place, at="value", severity="warning")
            else:
                message = f"{str(name).rpartition('.')[2]} is not supported: {entry['note']}"
                yield Problem(message, key=place, at="value", help=entry.get("use"))


def _is_off(value: Any) -> bool:
    return value is None or value is False or value == 0 or value in ("", [], {})
