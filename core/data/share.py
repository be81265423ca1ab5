"""The main process prepares the data, the others wait for it and take over what it made.

They wait outside of any collective, which would end after `ddp_timeout`: every rank tells the others through the store
of the process group that it is alive, and what came of its work. So an hour is as good as a second, and a process that
has gone is noticed all the same.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.data.cache import CacheEntry, read_entry
from core.errors import DataError, UserError
from core.processes import is_main, rank, world_size

BEAT_SECONDS = 1.0
SILENT_SECONDS = 120.0  # without a sign of life: longer than anything that holds Python's lock
FAREWELL_SECONDS = 5.0  # the store may end with the main process: the others are given time to read why
Outcome = dict[str, Any]


def on_main_first(work: Callable[[], CacheEntry], *, silence: float = SILENT_SECONDS) -> CacheEntry:
    """`work()` done by the main process and read by all others; they do it themselves where they cannot see its files.

    Returns when every rank has its entry. If one of them fails, all raise: a user's error as the same error. A rank
    that gives no sign of life for `silence` seconds is taken for gone, and is a `UserError`.
    """
    if world_size() == 1:
        return work()
    board = _board()
    with _beating(board):
        if is_main():
            return _first(work, board, silence)
        made = _outcome(board, 0, silence)
        board.set(f"heard/{rank()}", "yes")
        _raise_if_failed(made, 0)
        entry = read_entry(Path(made["folder"]))
        if entry is None:
            entry = _told(work, board)
        else:
            _tell(board, {"folder": made["folder"]})
        _wait_for_all(board, silence)
        return entry


def _first(work: Callable[[], CacheEntry], board: Any, silence: float) -> CacheEntry:
    try:
        entry = _told(work, board)
    except BaseException:
        end = time.monotonic() + FAREWELL_SECONDS
        others = [f"heard/{other}" for other in range(1, world_size())]
        while time.monotonic() < end and not board.check(others):
            time.sleep(0.05)
        raise
    _wait_for_all(board, silence)
    return entry


def _told(work: Callable[[], CacheEntry], board: Any) -> CacheEntry:
    """Do the work, and tell the others what came of it, whatever it is."""
    try:
        entry = work()
    except BaseException as error:
        user = isinstance(error, UserError)
        help = error.help if isinstance(error, UserError) else None
        _tell(board, {"error": str(error) or type(error).__name__, "help": help, "user": user})
        raise
    _tell(board, {"folder": str(entry.folder)})
    return entry


def _tell(board: Any, outcome: Outcome) -> None:
    board.set(f"outcome/{rank()}", json.dumps(outcome))


def _wait_for_all(board: Any, silence: float) -> None:
    for other in range(world_size()):
        if other != rank():
            _raise_if_failed(_outcome(board, other, silence), other)


def _raise_if_failed(outcome: Outcome, other: int) -> None:
    if "error" not in outcome:
        return
    if outcome["user"]:
        raise DataError(outcome["error"], help=outcome["help"])
    who = "the main process" if other == 0 else f"process {other}"
    raise RuntimeError(f"{who} could not prepare the data: {outcome['error']}")


def _outcome(board: Any, other: int, silence: float) -> Outcome:
    """What came of the work of rank `other`, however long it takes."""
    from torch.distributed import DistError

    beat, heard = b"", time.monotonic()
    try:
        while not board.check([f"outcome/{other}"]):
            now = board.get(f"beat/{other}") if board.check([f"beat/{other}"]) else b""
            if now != beat:
                beat, heard = now, time.monotonic()
            elif time.monotonic() - heard > silence:
                raise _gone(other)
            time.sleep(0.2)
        outcome: Outcome = json.loads(board.get(f"outcome/{other}"))
    except (DistError, ConnectionError) as error:
        raise _gone(other) from error  # the store lives in the main process, or in the launcher
    return outcome


def _gone(other: int) -> UserError:
    who = "the main process" if other == 0 else f"process {other}"
    return UserError(
        f"{who} stopped while the data was being prepared",
        help="its own message says why; without one the system ended it, as it does when memory runs out",
    )


def _board() -> Any:
    """The store that the process group was made with, in a room of its own for this call."""
    from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

    store = _get_default_store()
    number = store.add(f"tunesmith/data/calls/{rank()}", 1)
    return PrefixStore(f"tunesmith/data/{number}", store)


@contextmanager
def _beating(board: Any) -> Iterator[None]:
    """Give a sign of life all the while, from a thread of its own."""
    from torch.distributed import DistError

    over = threading.Event()

    def beat() -> None:
        number = 0
        while not over.is_set():
            number += 1
            try:
                board.set(f"beat/{rank()}", str(number))
            except (DistError, ConnectionError):
                return  # whoever waits for the store notices by itself
            over.wait(BEAT_SECONDS)

    thread = threading.Thread(target=beat, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
