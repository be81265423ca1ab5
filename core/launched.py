"""What a process knows of how it was launched, before torch is imported: its rank, and who waits for it to end."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

# The names that torchrun and the MPI launchers use.
RANK_VARIABLES = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")

# Set by `tunesmith launch`: the folder in which every process it started leaves its number and its exit code, because
# a signal has to reach those processes alone, and the launchers in between turn every failure into 1.
FOLDER_VARIABLE = "TUNESMITH_LAUNCH_FOLDER"

# Said where a signal comes before a process of the run has started.
EARLY = "interrupted before the run had started"

# Variables that only a launcher sets, never a user or a library in this process.
LAUNCHER_VARIABLES = ("ACCELERATE_DYNAMO_BACKEND", "TORCHELASTIC_RUN_ID")


def rank_of(environment: Mapping[str, str] = os.environ) -> int:
    """This process's rank among all, 0 where nothing was launched."""
    for name in RANK_VARIABLES:
        value = environment.get(name, "")
        if value.isdecimal():
            return int(value)
    return 0


def under_bare_launcher(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher other than `tunesmith launch` waits for this process, with a traceback should it fail."""
    return FOLDER_VARIABLE not in environment and any(name in environment for name in LAUNCHER_VARIABLES)


def keep_threads_calm() -> None:
    """Let threads that wait for each other sleep soon instead of spinning; must come before torch is imported.

    Where another program keeps a core busy, OpenMP's long spinning makes everything several times slower; sleeping
    after 5,000 turns costs next to nothing where the machine is free (figures in benchmarks/LOG.md).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def note_start() -> None:
    """Under `tunesmith launch`: leave this process's number, so that signals reach it."""
    _leave(f"{os.getpid()}.started", "")


def note_launcher() -> None:
    """Leave word that accelerate's launcher is ready for signals, which end it without a traceback from now on."""
    _leave("launcher.ready", "")


def launcher_is_ready(folder: Path) -> bool:
    """Whether the launcher noted so in `folder`."""
    return (folder / "launcher.ready").is_file()


def note_early_signal(folder: Path, number: int) -> None:
    """Remember in `folder` that a signal came before a process of the run had started."""
    (folder / "early.signal").write_text(str(int(number)), encoding="utf-8")


def early_signal(folder: Path) -> int | None:
    """The signal that came before a process of the run had started, if one did."""
    noted = folder / "early.signal"
    return int(noted.read_text(encoding="utf-8")) if noted.is_file() else None


def leave_exit_code(code: int) -> None:
    """Under `tunesmith launch`: leave the code this process ends with."""
    _leave(f"{rank_of()}.exit", str(code))


def leave(code: int) -> NoReturn:
    """End this process with `code`; one of several ends at once, after what is registered to run at exit.

    A library's thread that is still alive while the interpreter is taken down can abort the process, and the launcher
    would take a run that has ended well for a failed one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def started_processes(folder: Path) -> list[int]:
    """The numbers of the processes that noted their start in `folder`."""
    return [int(path.stem) for path in folder.glob("*.started")]


def exit_code(folder: Path) -> int | None:
    """The code of the lowest rank that left one other than 0; 0 if all that left one ended well; None if none did."""
    left = sorted(folder.glob("*.exit"), key=lambda path: int(path.stem))
    codes = [int(path.read_text(encoding="utf-8")) for path in left]
    return next((code for code in codes if code), 0) if codes else None


def _leave(name: str, text: str) -> None:
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder and Path(folder).is_dir():
        partial = Path(folder) / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(Path(folder) / name)
