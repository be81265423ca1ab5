"""One run at a time in an output folder: a claim that is taken atomically, and ends with the process that holds it.

The claim is a lock of the operating system on a small file, so there is nothing to clean up after a crash: the lock of
a process that is dead is gone, and the file that it leaves says no more than who the last owner was.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from core.errors import UserError
from core.output import refuse_existing_run
from core.types import Plan

CLAIM_FILE = ".running.json"


@contextmanager
def held_output_dir(plan: Plan, *, look_again: Callable[[Plan], None] = refuse_existing_run) -> Iterator[None]:
    """Within: no other run of this machine, or of another that shares the folder, writes into `plan.output_dir`.

    look_again: raises `UserError` where the folder is no longer as it was when it was chosen.

    Taken by the main process for all ranks. Raises `UserError` on every rank where another run holds the folder, where
    it finished one after this run was planned, or where the folder cannot be written.
    """
    from core.processes import gather_objects, is_main

    failures: list[tuple[str, str | None]] = []
    made: list[Path] = []
    claim: int | None = None
    if is_main():
        try:
            made = _missing(plan.output_dir)
            plan.output_dir.mkdir(parents=True, exist_ok=True)
            claim = _take(plan.output_dir)
            look_again(plan)  # another run may have finished since the folder was looked at
        except UserError as error:
            failures.append((error.message, error.help))
        except OSError as error:
            reason = f"output_dir {str(plan.output_dir)!r} cannot be written: {error.strerror or error}"
            failures.append((reason, "choose another output_dir"))
    try:
        for message, help in gather_objects(failures):
            raise UserError(message, help=help)
        yield
    finally:
        if claim is not None:
            # under the lock, so that nobody else's claim is removed
            (plan.output_dir / CLAIM_FILE).unlink(missing_ok=True)
            os.close(claim)
        for folder in made:
            with suppress(OSError):  # something was written
                folder.rmdir()


def refuse_live_run(folder: Path) -> None:
    """Raise `UserError` where another process writes into `folder` just now; for before anything is read or started.

    Never within a claim of this process's own: closing the file would end it. Of several processes none looks: the
    main one may hold the folder for all before another comes here, and `held_output_dir` tells them all.
    """
    import fcntl

    from core.processes import world_size

    if world_size() > 1:
        return
    try:
        file = os.open(folder / CLAIM_FILE, os.O_RDONLY)
    except OSError:  # nobody's, or a folder that is refused with its own reason
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise _taken(folder, file) from error
    finally:
        os.close(file)


@contextmanager
def shared_folder(folder: Path) -> Iterator[bool]:
    """Within: whether `folder`, which is there, is this process's to write into; the same on every rank.

    False, and nothing is held, where another process writes into it or it cannot be written.
    """
    from core.processes import gather_objects, is_main

    claim: int | None = None
    if is_main():
        with suppress(UserError, OSError):
            claim = _take(folder)
    try:
        (held,) = gather_objects([claim is not None] if is_main() else [])
        yield held
    finally:
        if claim is not None:
            (folder / CLAIM_FILE).unlink(missing_ok=True)
            os.close(claim)


def _missing(folder: Path) -> list[Path]:
    """The folders that have to be made for `folder`, the innermost first."""
    return [place for place in (folder, *folder.parents) if not place.exists()]


def _take(folder: Path) -> int:
    """The open claim file of `folder`, locked. Raises `UserError` where another process has the lock."""
    path = folder / CLAIM_FILE
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(file)
            if _is(file, path):
                _sign(file)
                return file
        except BlockingIOError as error:
            refusal = _taken(folder, file)
            os.close(file)
            raise refusal from error
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its owner has just removed it: the next one is somebody else's, or ours


def _lock(file: int) -> None:
    """Lock an open file for this process alone, not its children. Raises `BlockingIOError` where it is taken."""
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise BlockingIOError from error
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        from core.console import say

        say("warning: the file system of output_dir knows no locks: a second run into it would not be noticed")


def _is(file: int, path: Path) -> bool:
    """Whether `path` still is the open file."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _sign(file: int) -> None:
    owner = {
        "process": os.getpid(),
        "machine": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(owner).encode(), 0)


def _taken(folder: Path, file: int) -> UserError:
    """What is said where the open claim `file` of `folder` is another's."""
    return UserError(
        f"another run is writing into output_dir {str(folder)!r}{_described(os.pread(file, 1000, 0))}",
        help="wait for it, stop it, or choose another output_dir",
    )


def _described(owner: bytes) -> str:
    """Who holds a claim, in words; nothing where the file does not say."""
    try:
        said = json.loads(owner)
        return f": process {said['process']} on {said['machine']}, since {said['since']}"
    except (ValueError, KeyError, TypeError):
        return ""
