"""A lock as YAML that our reader takes back to exactly the same values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from core.yaml_nodes import resolve_scalar

HEADER = """\
# What a run of tunesmith used, written when its training started. Nothing here needs editing.
# Run it again:              tunesmith run --locked {name} --set output_dir=ANOTHER_FOLDER
# Run it again and compare:  tunesmith reproduce RUN_DIR
"""


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that a recipe would read as something else, and keeps long texts on lines of their own."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text.strip("\n") else None if resolve_scalar(text) == text and text != "<<" else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def lock_text(values: Mapping[str, Any], name: str) -> str:
    """The text of the lock file `name`."""
    body = yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return HEADER.format(name=name) + body
