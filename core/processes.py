"""The processes of a run: how many there are, which one this is, its device, its threads and its seeds.

Importing this module needs no torch. `rank` and `world_size` also answer before `start_processes`, from the environment
that a launcher sets, so that a message printed early still appears once.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from core.memory import keep_few_kernels

if TYPE_CHECKING:
    from accelerate import PartialState

    from core.types import Plan

THREADS_VARIABLE = "TUNESMITH_NUM_THREADS"
# The main process reads the data and judges answers while the others wait, at times longer than NCCL by itself would.
# It is no help against a process that fails: the launcher then ends the others.
PATIENCE_SECONDS = 1800
Element = TypeVar("Element")
Result = TypeVar("Result")


def start_processes(plan: Plan) -> None:
    """Meet the other ranks, choose the device and the threads, and seed; prints one line. Before anything is drawn.

    Raises `UserError` for a thread count that is not a positive number.
    """
    threads = _choose_threads()
    # accelerate warns, and chooses by itself, where this is unset in a CPU process group
    os.environ["OMP_NUM_THREADS"] = str(threads)
    keep_few_kernels()
    import torch
    from accelerate import PartialState

    patience = timedelta(seconds=plan.recipe["ddp_timeout"] or PATIENCE_SECONDS)
    state = PartialState(cpu=_use_cpu(), timeout=patience)
    torch.set_num_threads(threads)
    _quieten_libraries()
    seed_everything(int(plan.recipe["seed"] if plan.recipe["seed"] is not None else 42))
    from core.console import say

    processes = f"{state.num_processes} process" + ("es" if state.num_processes > 1 else "")
    name = device_name()
    say(
        f"{threads} thread{'s' if threads > 1 else ''}, {processes}, {state.device.type}"
        + (f" ({name})" if name else "")
    )


def stop_processes() -> None:
    """Leave the process group, if there is one; at the very end of a program."""
    state = _state()
    if state is not None and state.num_processes > 1:
        state.destroy_process_group()


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    import random

    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rank() -> int:
    """This process's number, 0 for the main one."""
    state = _state()
    return state.process_index if state is not None else int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """The number of processes in the run."""
    state = _state()
    return state.num_processes if state is not None else int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that prints and writes."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process has come here."""
    state = _state()
    if state is not None:
        state.wait_for_everyone()


def gather_objects(objects: list[Element]) -> list[Element]:
    """Every rank's list, joined in rank order, on every rank. The elements must be picklable."""
    state = _state()
    if state is None or state.num_processes == 1:
        return list(objects)
    import torch.distributed

    parts: list[list[Element]] = [[] for _ in range(state.num_processes)]
    torch.distributed.all_gather_object(parts, list(objects))
    return [element for part in parts for element in part]


def broadcast_object(given: Element) -> Element:
    """The main process's object, on every rank. It must be picklable."""
    state = _state()
    if state is None or state.num_processes == 1:
        return given
    import torch.distributed

    held = [given]
    torch.distributed.broadcast_object_list(held, src=0)
    return held[0]


def on_main(work: Callable[[], Result]) -> Result:
    """What `work` gives on the main process, on every rank; a user's error is raised on every rank alike."""
    from core.errors import UserError

    outcome: list[tuple[Any, tuple[str, str | None] | None]] = []
    failure: UserError | None = None
    if is_main():
        try:
            outcome = [(work(), None)]
        except UserError as error:
            # as text: an error of a kind of its own may not survive the way to the other ranks
            failure, outcome = error, [(None, (error.message, error.help))]
    ((result, said),) = gather_objects(outcome)
    if failure is not None:
        raise failure
    if said is not None:
        raise UserError(said[0], help=said[1])
    return result  # type: ignore[no-any-return]


def process_seconds() -> float:
    """Wall time since this process began, imports included: what the user waited."""
    import psutil

    return max(0.0, time.time() - float(psutil.Process().create_time()))


def device_name() -> str:
    """The name of the accelerator, or of the processor where the run is on CPU."""
    import torch

    state = _state()
    if state is not None and state.device.type == "cuda":
        return torch.cuda.get_device_name(state.device)
    return processor_name()


def device_type() -> str:
    """Where the run computes: `cpu`, `cuda`, ..."""
    state = _state()
    return state.device.type if state is not None else "cpu"


def processor_name() -> str:
    """The name of the processor, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def facts() -> dict[str, Any]:
    """What the run ran on, JSON-ready, for `run.json`."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from core import __version__

    versions = {}
    for package in ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "bitsandbytes"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "device": device_type(),
        "device_name": device_name(),
        "threads": torch.get_num_threads(),
        "cores": available_cores(),
        "world_size": world_size(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "tunesmith": __version__,
        "versions": versions,
    }


def available_cores() -> int:
    """Cores this process may use: the smallest of its affinity, the physical cores, and the container's quota."""
    import psutil

    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    physical = psutil.cpu_count(logical=False)
    if physical:
        limits.append(physical)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            limits.append(round(int(quota) / int(period)))
    except (OSError, ValueError):
        pass  # no such file outside a control group: nothing limits us
    return max(1, min(limits))


def _choose_threads() -> int:
    """Threads for this process: what the user chose, else the cores shared out among this machine's processes."""
    from core.errors import UserError

    chosen = os.environ.get(THREADS_VARIABLE)
    if chosen is None and not _launcher_set_threads():
        chosen = os.environ.get("OMP_NUM_THREADS")
    if chosen is None:
        return max(1, available_cores() // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    if not chosen.isdigit() or int(chosen) == 0:
        raise UserError(
            f"{chosen!r} is not a number of threads", help=f"set {THREADS_VARIABLE} (or OMP_NUM_THREADS) to 1 or more"
        )
    return int(chosen)


def _launcher_set_threads() -> bool:
    """Whether OMP_NUM_THREADS=1 is the default of `accelerate launch` or `torchrun`, which nobody chose."""
    launched = "TORCHELASTIC_RUN_ID" in os.environ or any(name.startswith("ACCELERATE_") for name in os.environ)
    return launched and os.environ.get("OMP_NUM_THREADS") == "1"


def _use_cpu() -> bool:
    import torch

    return (
        os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes") or not torch.accelerator.is_available()
    )


def _quieten_libraries() -> None:
    """Errors only from the libraries underneath, unless the user set their own level; their progress bars off."""
    import logging
    import warnings

    import datasets
    import transformers

    # on import it warns of an optional faster kernel that it would fetch from the hub
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if not sys.warnoptions:
        # what the libraries tell each other about their next major version
        warnings.filterwarnings(
            "ignore", category=FutureWarning, module=r"(transformers|peft|accelerate|datasets)(\.|$)"
        )
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if "DATASETS_VERBOSITY" not in os.environ:
        datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()


def _state() -> PartialState | None:
    """accelerate's process state, or None before the processes have met; never starts anything."""
    module = sys.modules.get("accelerate.state")
    if module is None or not module.PartialState._shared_state:
        return None
    state: PartialState = module.PartialState()
    return state
