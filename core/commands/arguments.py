"""Arguments that several commands take, each defined once."""

from __future__ import annotations

import argparse

SET_HELP = "override a key, lists by number: --set datasets.0.path=mine.jsonl (null unsets it; may be repeated)"


def add_overrides(parser: argparse.ArgumentParser, help: str = SET_HELP) -> None:
    """`--set KEY=VALUE`, any number of times, as `overrides`."""
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help=help,
    )


def add_trust_remote_code(parser: argparse.ArgumentParser) -> None:
    """`--trust-remote-code`: only the person at the command line can allow it, never a recipe."""
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="allow the model's own Python code to run (off by default)"
    )
