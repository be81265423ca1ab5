"""The memory that is planned for: this machine's, or that of a GPU that is not here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
RUN_LIBRARIES = 50 * 2**20  # what a run on a CPU loads beyond what planning does: measured, see docs/planning.md
CUDA_CONTEXT = 0.6 * GIB  # what CUDA, its libraries and kernels take of a device before the first tensor
SPARE = 0.04  # of the memory: left for what an allocator cannot place without gaps
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Device:
    """kind: "cuda" or "cpu". memory: bytes it has. base: bytes taken before there is a model: on a CPU the process as
    it is now, libraries and data included. here: whether it is this machine's own."""

    kind: str
    memory: float
    base: float
    here: bool = True

    @property
    def room(self) -> float:
        """Bytes that a run may take, `base` included, if some are to be spare."""
        return self.memory * (1 - SPARE)


def this_device() -> Device:
    """The first CUDA device, or this machine's memory as far as the container may use it."""
    import torch

    if torch.cuda.is_available():
        return Device("cuda", float(torch.cuda.mem_get_info()[1]), CUDA_CONTEXT)
    return Device("cpu", host_memory(), process_bytes())


def gpu_of(gigabytes: float) -> Device:
    """A CUDA device of that many GiB, as its maker counts them."""
    return Device("cuda", gigabytes * GIB, CUDA_CONTEXT, here=False)


def process_bytes() -> float:
    """The resident size of this process."""
    import psutil

    return float(psutil.Process().memory_info().rss)


def host_memory() -> float:
    """Bytes of main memory that this process may use: the machine's, or less in a container."""
    import psutil

    limits = [float(psutil.virtual_memory().total)]
    for name in CGROUP_LIMITS:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue  # no such file outside a control group: nothing limits us
        if text.isdigit():
            limits.append(float(text))
    return min(limits)
