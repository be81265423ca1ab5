"""`tunesmith launch`: `accelerate launch -m core RECIPE`, with clean messages, exit codes and signals."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from core.commands import run
from core.launched import (
    EARLY,
    FOLDER_VARIABLE,
    early_signal,
    exit_code,
    launcher_is_ready,
    note_early_signal,
    started_processes,
)
from core.processes import THREADS_VARIABLE

HELP = "run a recipe through accelerate launch: several processes, clean messages and exit codes"
EXAMPLE = "tunesmith launch recipes/quickstart.yml --overwrite --set max_steps=20 --num_processes 1"
TAKES_OTHER_FLAGS = True

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `run`; whatever else stands behind the recipe is accelerate's."""
    run.add_arguments(parser)
    parser.usage = f"{parser.prog} RECIPE [options of run] [accelerate's flags, such as --num_processes 2]"


def execute(args: argparse.Namespace) -> int:
    """Check the recipe here, so that a mistake in it starts nothing; then launch, and return what the run returned."""
    run.plan_of(args)
    with tempfile.TemporaryDirectory(prefix="tunesmith-launch-") as name:
        folder = Path(name)
        # safe path: a folder called `core` in the working directory must not stand in for this package
        environment = {**os.environ, "PYTHONSAFEPATH": "1", FOLDER_VARIABLE: name, **_threads_chosen(args.other_flags)}
        command = [sys.executable, "-m", "core.launcher", *args.other_flags, "-m", "core", *_run_arguments(args)]
        # A group of its own, so that Ctrl-C on the terminal reaches this process alone, which passes it on once:
        # launchers pass it on as well, or die of it and leave the run behind. Such a group cannot read the terminal.
        with _forwarding(folder) as started:
            launcher = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0)
            started.append(launcher.pid)
            launcher_code = launcher.wait()
        code = exit_code(folder)
        if not code and (number := early_signal(folder)):
            if launcher_code == -signal.SIGKILL:
                print(EARLY, file=sys.stderr)
            return 128 + number
    if launcher_code != 0 and not code:
        return launcher_code if launcher_code > 0 else 128 - launcher_code
    return code or 0


def _threads_chosen(flags: list[str]) -> dict[str, str]:
    """The user's own thread count, which a process cannot tell from the 1 that launchers set by themselves."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--num_cpu_threads_per_process", "--num-cpu-threads-per-process", dest="threads", nargs="?")
    by_flag = parser.parse_known_args(flags)[0].threads
    chosen = by_flag or os.environ.get(THREADS_VARIABLE) or os.environ.get("OMP_NUM_THREADS")
    return {THREADS_VARIABLE: chosen} if chosen else {}


def _run_arguments(args: argparse.Namespace) -> list[str]:
    """The command line of `run` that says what `args` say."""
    arguments = ["run", str(args.recipe)]
    for override in args.overrides:
        arguments += ["--set", override]
    if args.overwrite:
        arguments.append("--overwrite")
    if args.resume:
        arguments += ["--resume", args.resume]
    if args.trust_remote_code:
        arguments.append("--trust-remote-code")
    if args.locked:
        arguments.append("--locked")
    for kind in args.allow_drift:
        arguments += ["--allow-drift", kind]
    return arguments


@contextmanager
def _forwarding(folder: Path) -> Iterator[list[int]]:
    """Pass signals on to the processes of the run; until they start, end the group put into the list."""
    launcher: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        run_processes = started_processes(folder)
        for process in run_processes:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(process, number)
        for group in launcher if not run_processes else ():
            with suppress(ProcessLookupError):
                note_early_signal(folder, number)
                if launcher_is_ready(folder):
                    os.kill(group, signal.SIGTERM)  # it ends what has not started yet
                else:
                    os.killpg(group, signal.SIGKILL)

    before: dict[signal.Signals, Any] = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield launcher
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
