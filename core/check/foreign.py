"""Keys of other tools' recipes: what they do here, or why they do nothing. The table is schemas/axolotl-keys.json."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from core.errors import Problem
from core.recipe import Recipe
from core.schema_files import load_fragment
from core.types import KeyPath


class ForeignKeys:
    """The table of foreign keys, read when it is first needed."""

    @cached_property
    def keys(self) -> dict[str, dict[str, str]]:
        """Key (`datasets[].key` inside data sets) -> `effect`, and `note`, `use` where there is something to say."""
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

        A key that is switched off (null, false, 0) asks for what happens anyway, so only a dead one, which has no effect
        where it comes from either, is reported then.
        """
        entry = self.keys[".".join(map(str, path))]
        name = path[-1]
        note, use = entry.get("note", ""), entry.get("use")
        where = place or path
        if entry["effect"] == "dead":
            return Problem(
                f"{name!r} does nothing, in axolotl neither: {note}", key=where, severity="warning", help=use
            )
        if _is_off(value):
            return None
        if entry["effect"] in ("unsupported", "job"):
            return Problem(
                f"{name!r} is not supported: {note}", key=where, help=use or "remove the key to train without it"
            )
        return Problem(f"{name!r} has no effect here: {note}", key=where, severity="warning", help=use)


def _is_off(value: Any) -> bool:
    return value is None or value is False or value == 0 or value in ("", [], {})
