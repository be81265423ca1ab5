"""A recipe: YAML text, its values, and where each of them stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import Position
from core.types import KeyPath


@dataclass(frozen=True)
class Recipe:
    """A recipe's text and values.

    values: what the file (and `--set`) says; null entries are absent. defaults: what the schemas supply for keys that
    are absent; both are read by `recipe[key]`, which gives None for a key that is neither.
    positions: where each key path stands: `positions[path]` is (place of the key, place of the value).
    """

    path: Path
    text: str
    values: Mapping[str, Any]
    positions: Mapping[KeyPath, tuple[Position, Position]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.values[key] if key in self.values else self.defaults.get(key)

    def __contains__(self, key: str) -> bool:
        """Whether the recipe itself sets `key`."""
        return key in self.values
