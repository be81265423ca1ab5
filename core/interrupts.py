"""Ctrl-C that a library turned into another error: an import that is broken off halfway may end in any exception."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# An import fails at once where it is broken off; an error long after an interrupt that a library swallowed is another.
LATELY_SECONDS = 30.0


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], bool]]:
    """Within: tells whether an interrupt came lately, whatever became of the `KeyboardInterrupt` that it raised.

    Only where Python's own handler is in charge; handlers that are set later are left alone.
    """
    came: list[float] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(time.monotonic())
        signal.default_int_handler(number, frame)

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(came) and time.monotonic() - came[-1] < LATELY_SECONDS
    finally:
        if ours and signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, signal.default_int_handler)
