"""`tunesmith reproduce`: run what a finished run's lock says once more, and compare the two to the last bit."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.commands.arguments import add_overrides, add_trust_remote_code
from core.commands.files import write_file
from core.commands.run import DRIFT_KINDS
from core.errors import UserError

if TYPE_CHECKING:
    from core.lock import Lock

HELP = "run a finished run again from its lock, and compare losses, weights and answers"
EXAMPLE = "tunesmith reproduce outputs/quickstart --output outputs/quickstart-again"

DIFFERENT = 3
RESULT_FILE = "reproduction.json"
# what makes accelerate start several processes on a CPU
_CPU_PROCESSES = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nuse_cpu: true\nnum_processes: {}\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and where the new one goes."""
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the output_dir of a finished run")
    parser.add_argument("--output", metavar="DIR", type=Path, help="where the new run goes (RUN_DIR-reproduced)")
    add_overrides(parser, "where a file has moved to: --set datasets.0.path=data/train.jsonl (may be repeated)")
    parser.add_argument(
        "--allow-drift",
        choices=DRIFT_KINDS,
        action="append",
        default=[],
        help="tell changes of this kind, and run all the same (may be repeated)",
    )
    add_trust_remote_code(parser)


def execute(args: argparse.Namespace) -> int:
    """Run and compare: 0 for equal runs, 3 for different ones, else the code that the new run ended with."""
    from core.lock import LOCK_FILE, load_lock
    from core.lock.compare import compare_runs, finished_run, report_lines

    finished_run(args.run_dir)
    if not (args.run_dir / LOCK_FILE).is_file():
        raise UserError(
            f"{str(args.run_dir)!r} holds no {LOCK_FILE}",
            help="run the recipe again: runs write one now",
        )
    lock = load_lock(args.run_dir / LOCK_FILE)
    output = args.output or args.run_dir.with_name(f"{args.run_dir.resolve().name}-reproduced")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{str(output)!r} is there already", help="name a new folder with --output")
    code = _run_again(args, lock, output.absolute())
    if code:
        return code
    result = compare_runs(args.run_dir, output)
    write_file(output / RESULT_FILE, json.dumps(result, indent=1) + "\n")
    print(f"\n{args.run_dir} and {output}:")
    print("\n".join(f"  {line}" for line in report_lines(result)))
    print("  the run is reproduced" if result["equal"] else f"  not reproduced{_excuse(lock.values['hardware'])}")
    return 0 if result["equal"] else DIFFERENT


def _run_again(args: argparse.Namespace, lock: Lock, output: Path) -> int:
    """Run the lock in processes of their own, as many and with as many threads as the first time; the exit code."""
    # JSON text is YAML text: whatever the path holds, it stays one text
    arguments = [lock.source.file, "--locked", "--set", f"output_dir={json.dumps(str(output), ensure_ascii=False)}"]
    for text in args.overrides:
        arguments += ["--set", text]
    for kind in args.allow_drift:
        arguments += ["--allow-drift", kind]
    if args.trust_remote_code:
        arguments.append("--trust-remote-code")
    hardware = lock.values["hardware"]
    processes = int(hardware.get("world_size") or 1)
    # safe path: a folder called `core` in the working directory must not stand in for this package
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "TUNESMITH_NUM_THREADS": str(hardware.get("threads") or 1)}
    with tempfile.TemporaryDirectory(prefix="tunesmith-reproduce-") as folder:
        command = ["run", *arguments]
        if processes > 1:
            command = ["launch", *arguments, "--num_processes", str(processes)]
            if hardware.get("device") == "cpu":
                config = Path(folder) / "accelerate.yml"
                config.write_text(_CPU_PROCESSES.format(processes), encoding="utf-8")
                command += ["--config_file", str(config)]
        return _wait(subprocess.Popen([sys.executable, "-m", "core", *command], env=environment))


def _wait(run: subprocess.Popen[bytes]) -> int:
    """The exit code of the run. Ctrl-C reaches it as well, and it saves a checkpoint before it ends."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = run.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def _excuse(hardware: Mapping[str, Any]) -> str:
    """Where equality to the last bit was never promised."""
    if hardware.get("device") == "cpu" and hardware.get("world_size") == 1:
        return ""
    return ": only one process on a CPU computes the same bits each time; on GPUs and over processes sums vary in order"
