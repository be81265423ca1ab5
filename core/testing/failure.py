"""How a conformance check fails."""

from __future__ import annotations


class ConformanceError(AssertionError):
    """A plugin does not keep what every plugin has to; the message says what was expected and what was found."""


def require(condition: bool, message: str) -> None:
    """Raise `ConformanceError` with `message` unless `condition` holds; unlike `assert`, also under `python -O`."""
    if not condition:
        raise ConformanceError(message)
