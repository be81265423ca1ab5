"""The entries of the cache: folders that are there whole or not at all.

An entry is written into a hidden folder beside its place and renamed when it is complete, under a lock that the system
releases if the process dies; so nothing half-written is ever read, and two processes do the work once.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.console import say
from core.errors import UserError
from core.models.gguf import cache_folder

META = "prepared.json"
PARTIAL = ".partial-"
GONE = "gone-"


@dataclass(frozen=True)
class CacheEntry:
    """One prepared data set. meta: what `prepared.json` says. used: when it was last read, in seconds since 1970."""

    folder: Path
    meta: Mapping[str, Any]

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    @property
    def used(self) -> float:
        return (self.folder / META).stat().st_mtime


def prepared_folder(chosen: str | None) -> Path:
    """Where prepared data is kept: `dataset_prepared_path`, else `prepared` in the user's cache."""
    return Path(chosen).expanduser().absolute() if chosen else cache_folder() / "prepared"


def take_entry(root: Path, key: str, build: Callable[[Path], Mapping[str, Any]]) -> tuple[CacheEntry, bool]:
    """The entry `key` in `root`, and whether it was there already; else made by `build`, which fills a folder and
    returns what is to be known of it, JSON-ready.

    Another process that makes the same entry is waited for, however long it takes. Raises `UserError` if nothing can
    be written.
    """
    from filelock import FileLock, Timeout

    found = _used(read_entry(root / key))
    if found is not None:
        return found, True
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / f".{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say("another process is preparing the same data: waiting for it")
            lock.acquire()
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        found = read_entry(root / key)
        return (found, True) if found is not None else (_made(root, key, build), False)
    finally:
        lock.release()


def _used(found: CacheEntry | None) -> CacheEntry | None:
    """The entry, marked as just read; None where it was cleared meanwhile."""
    try:
        if found is not None:
            os.utime(found.folder / META)
    except FileNotFoundError:
        return None
    return found


def cache_entries(root: Path) -> list[CacheEntry]:
    """All entries in `root`, the one last used first."""
    found = [read_entry(folder) for folder in root.iterdir()] if root.is_dir() else []
    return sorted((entry for entry in found if entry is not None), key=lambda entry: -entry.used)


def remove_folder(folder: Path) -> int | None:
    """Take an entry, or what `abandoned` found, away, in one step for those who look for it; its bytes. A run that has
    it open goes on with it. None, and nothing is done, where another process is at work on it or was faster."""
    from filelock import FileLock, Timeout

    key = folder.name.removeprefix(PARTIAL).removeprefix(GONE)
    try:
        # the lock's file stays for good: two processes could hold a lock whose name came to stand for another file
        with FileLock(folder.with_name(f".{key}.lock"), timeout=0):
            if not folder.exists():
                return None
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            gone = folder.with_name(f"{PARTIAL}{GONE}{key}")
            if folder != gone:
                shutil.rmtree(gone, ignore_errors=True)
                os.replace(folder, gone)
            shutil.rmtree(gone)
    except Timeout:
        return None
    return size


def abandoned(root: Path) -> list[Path]:
    """What processes that were killed may have left behind; `remove_folder` leaves alone what is being written."""
    return sorted(root.glob(f"{PARTIAL}*"))


def read_entry(folder: Path) -> CacheEntry | None:
    """The entry in `folder` if all of it is there."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in meta["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return CacheEntry(folder, meta) if sizes == meta["files"] else None


def _made(root: Path, key: str, build: Callable[[Path], Mapping[str, Any]]) -> CacheEntry:
    folder, partial = root / key, root / f"{PARTIAL}{key}"
    # the lock is ours: whoever wrote these is gone
    for left in (partial, folder):
        if left.exists():
            shutil.rmtree(left)
    partial.mkdir()
    try:
        start = time.time()
        facts = build(partial)
        files = {file.name: file.stat().st_size for file in partial.iterdir()}
        meta = {**facts, "files": files, "created": start, "seconds": time.time() - start}
        (partial / META).write_text(json.dumps(meta, indent=1, default=str), encoding="utf-8")
        for file in (*partial.iterdir(), partial):
            _to_disk(file)
        os.replace(partial, folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _unwritable(root, error) from error
        raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return CacheEntry(folder, meta)


def _unwritable(root: Path, error: OSError) -> UserError:
    return UserError(
        f"prepared data cannot be written to {str(root)!r}: {error.strerror or error}",
        help="make room there, or choose another folder with dataset_prepared_path (or TUNESMITH_CACHE)",
    )


def _to_disk(path: Path) -> None:
    """Have the system write `path` out, so that a rename never outlives what it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
