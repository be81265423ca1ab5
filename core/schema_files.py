"""Reads the JSON files of the data package `schemas`."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def load_fragment(name: str) -> dict[str, Any]:
    """The schema file `schemas/<name>.json`: for an owner of recipe keys, a map from key to JSON Schema."""
    return dict(json.loads(files("schemas").joinpath(f"{name}.json").read_text(encoding="utf-8")))
