"""`tunesmith schema`: the JSON Schema of recipes, for editors."""

from __future__ import annotations

import argparse

HELP = "print the JSON Schema of recipes, with the keys of every installed plugin, for editors"
EXAMPLE = "tunesmith schema > recipe.schema.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`schema` takes no arguments."""


def execute(args: argparse.Namespace) -> int:
    """Print the schema."""
    from core.check.export import schema_text
    from core.host import load_host

    print(schema_text(load_host()), end="")
    return 0
