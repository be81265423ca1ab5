"""What a run prints: on the main process only, flushed at once, so that a log file reads like the terminal."""

from __future__ import annotations

import sys

from core.processes import is_main


def say(text: str = "") -> None:
    """Print `text` to stdout on the main process; the other ranks stay silent."""
    if is_main():
        print(_printable(text, sys.stdout.encoding), flush=True)


def _printable(text: str, encoding: str | None) -> str:
    """The text as a terminal or log of that encoding can take it, so that a dash cannot end a run that is done."""
    return text.encode(encoding, errors="replace").decode(encoding) if encoding else text


def say_error(text: str) -> None:
    """Print `text` to stderr on the main process."""
    if is_main():
        print(text, file=sys.stderr, flush=True)
