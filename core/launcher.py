"""What `tunesmith launch` starts: accelerate's launcher, without its traceback where the run said what failed.

`python -m core.launcher [accelerate's flags] -m core run RECIPE ...`
"""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from core.errors import UserError
from core.launched import EARLY, FOLDER_VARIABLE, exit_code, note_launcher, started_processes

INTERRUPTED = 130
# flags of accelerate that count something
COUNTS = ("num_processes", "num_machines", "num_cpu_threads_per_process")


def main(argv: Sequence[str]) -> int:
    """Launch; returns the exit code. An exception flies only if no process of the run has left its exit code."""
    from accelerate.commands.launch import launch_command, launch_command_parser

    try:
        args = launch_arguments(launch_command_parser(), argv)
    except UserError as error:
        print(f"error: {error.message}\nhelp: {error.help}", file=sys.stderr)
        return 2
    start_every_process_on_cpu(args)
    let_the_system_choose_a_port(args)
    # the failure of a process is told by that process, with more to go by
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        launch_command(args)
    except (Exception, SystemExit) as error:
        if type(error).__name__ == "SignalException":  # what torch's agent makes of a signal
            raise KeyboardInterrupt from None
        code = exit_code(Path(os.environ[FOLDER_VARIABLE]))
        if code:
            return code
        number = signal_that_ended(error)
        if number is None:
            raise
        name = signal.Signals(number).name
        help = (
            "the system's memory may have run out: try a smaller micro_batch_size"
            if name == "SIGKILL"
            else "run it again"
        )
        print(f"error: a process of the run was ended by {name}\nhelp: {help}", file=sys.stderr)
        return 128 + number
    return 0


def main_or_interrupted(argv: Sequence[str]) -> int:
    """`main`, and what becomes of a signal: `tunesmith launch` sends SIGTERM while no process of the run has started, a
    scheduler may send one to all at once.

    Processes that have started get theirs themselves and are waited for; those that have not are ended, because an
    interpreter that is interrupted while it starts shows a traceback.
    """
    folder = Path(os.environ[FOLDER_VARIABLE])
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        note_launcher()
        return main(argv)
    except KeyboardInterrupt:
        import psutil

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # this is the end already
        children = psutil.Process().children(recursive=True)
        if started_processes(folder):
            psutil.wait_procs(children)
            return exit_code(folder) or INTERRUPTED
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        print(EARLY, file=sys.stderr)
        return INTERRUPTED


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def signal_that_ended(error: BaseException) -> int | None:
    """The signal that ended the first process to fail, if one did."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if isinstance(error, ChildFailedError):
        code = error.get_first_failure()[1].exitcode
    elif isinstance(error, subprocess.CalledProcessError):
        code = error.returncode
    else:
        return None
    return -code if code < 0 else None


def launch_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """accelerate's view of `argv`. Raises `UserError` for a flag it does not know (it would run the flag's value)."""
    flags = list(argv)[: _script_index(argv)]
    for flag in flags:
        name = flag.split("=")[0]
        number = name.removeprefix("-").isdigit()  # the value of the flag before it
        if name.startswith("-") and not number and name not in parser._option_string_actions:
            near = difflib.get_close_matches(name, parser._option_string_actions, n=1)
            raise UserError(
                f"unknown argument {name!r}",
                help=f"did you mean {near[0]!r}?"
                if near
                else "see tunesmith launch --help and accelerate launch --help",
            )
    args = parser.parse_args(list(argv))
    for name in COUNTS:
        value = getattr(args, name, None)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}, expected 1 or more", help=f"leave --{name} out, or write a number")
    if args.training_script != "core" or not args.module:
        raise UserError(
            f"cannot place {args.training_script!r} among accelerate's flags {' '.join(flags)!r}",
            help="write tunesmith launch RECIPE, then options, each with its value",
        )
    return args


def start_every_process_on_cpu(args: Any) -> None:
    """Make accelerate start as many processes as asked for where there is no accelerator; it would start one.

    It starts several local processes only in its several-GPU mode, which works on CPU as well (over gloo).
    """
    import torch

    config = _config(args)
    processes = args.num_processes or (config.num_processes if config else 1) or 1
    cpu = args.cpu or bool(config and getattr(config, "use_cpu", False)) or not torch.accelerator.is_available()
    hostfile = _mpi_hostfile(args, config)
    other_mode = args.tpu or args.use_deepspeed or args.use_fsdp or args.use_megatron_lm
    if cpu and processes > 1 and not hostfile and not other_mode:
        args.cpu, args.multi_gpu, args.num_processes = False, True, processes
        os.environ["ACCELERATE_USE_CPU"] = "true"


def let_the_system_choose_a_port(args: Any) -> None:
    """Where the processes of one machine meet, if nobody says: two runs started at once must not meet each other.

    accelerate takes port 29500 for every run that finds it free, which both find a moment before either takes it.
    """
    from accelerate.commands.config.config_args import default_config_file

    config = _config(args, default_config_file if Path(default_config_file).is_file() and not args.cpu else None)
    machines = args.num_machines or getattr(config, "num_machines", None) or 1
    port = args.main_process_port if args.main_process_port is not None else getattr(config, "main_process_port", None)
    if machines == 1 and port is None and not _mpi_hostfile(args, config):
        # the store of a standalone run takes its port as it asks for it; accelerate looks whether port 0 is in use
        args.standalone, args.main_process_port = True, 0


def _config(args: Any, default: str | None = None) -> Any:
    """accelerate's configuration file, if `args` name one or there is a default."""
    from accelerate.commands.config.config_args import load_config_from_file

    file = args.config_file or default
    return load_config_from_file(file) if file else None


def _mpi_hostfile(args: Any, config: Any) -> Any:
    return args.mpirun_hostfile or (getattr(config, "mpirun_config", None) or {}).get("mpirun_hostfile")


def _script_index(argv: Sequence[str]) -> int:
    """Where `-m core run` begins."""
    return next(i for i in range(len(argv)) if list(argv[i : i + 3]) == ["-m", "core", "run"])


if __name__ == "__main__":
    sys.exit(main_or_interrupted(sys.argv[1:]))
