"""Peak memory of a stretch of work."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

SAMPLE_SECONDS = 0.05  # each waking costs training about 0.1 ms of processor time


# glibc's mallopt: its parameters, and the values that it comes to by itself where a program frees large blocks
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
USUAL_MMAP, USUAL_TRIM = 32 * 2**20, 64 * 2**20
SMALL = 2**20
# how many products stay compiled, each for the shapes it met: by oneDNN, and by torch's layer above it
KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
KERNELS = 48  # a step of a decoder with LoRA has some 40, half of them in each direction


# how the allocators of CPU and CUDA, and the libraries that allocate for themselves, say that there is no room
NO_ROOM = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no room for a tensor."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in NO_ROOM)


def keep_few_kernels() -> None:
    """Let a processor keep few compiled products in bfloat16, unless the environment says how many.

    Both libraries keep 1,024 of them, about 0.5 MB each, in gaps between tensors. Ragged batches ask for new ones in
    every step: in training SmolLM2 that was 15 MB a step. Where each stays for several steps, it keeps others out of
    the place it takes: 20 steps of the quickstart peak at 1,900 MiB with 128 of them, at 1,690 with 64, at 1,600 with
    48, and at 1,440 with 2, which takes 2.5 times as long; 48 and 128 take the same. Read at the first product, so call
    it before that.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, str(KERNELS))


def give_back() -> None:
    """Free what nothing refers to any more, and return it to the system, so that what comes next is measured alone."""
    gc.collect()
    if trim := _of_glibc("malloc_trim"):
        trim(0)


@contextmanager
def returned_at_once() -> Iterator[None]:
    """Within: blocks above 1 MiB go back to the system when they are freed, instead of leaving gaps between others.

    Every such block costs the system work: it is for the loading of weights, and for training where gaps cost more.
    """
    set_option = _of_glibc("mallopt")
    if set_option is None:
        yield
        return
    set_option(M_MMAP_THRESHOLD, SMALL)
    try:
        yield
    finally:
        set_option(M_MMAP_THRESHOLD, USUAL_MMAP)
        set_option(M_TRIM_THRESHOLD, USUAL_TRIM)
        give_back()


def _of_glibc(name: str) -> Any:
    """A function of Linux's C library; None elsewhere, and where it is another one (musl)."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


class PeakMemory:
    """Measures the peak memory between `start` and `stop`, or of a `with` block.

    On CUDA: bytes of tensors allocated on the current device at their highest (`kind` is "cuda_allocated"). Otherwise
    the process's highest resident set, sampled every 50 ms (`kind` is "rss_sampled"): it includes the interpreter and
    all libraries. Where Linux has seen a new highest of the process since `start`, that is taken, and is exact.
    `peak_bytes` may be read while it runs; `start_bytes` is what was used at the start. CUDA keeps one peak per device:
    do not nest on CUDA.
    """

    def __init__(self) -> None:
        self.kind: Literal["cuda_allocated", "rss_sampled"] = "rss_sampled"
        self.start_bytes = 0
        self._peak = 0
        self._before = 0  # the highest resident set of the process when it was started
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def peak_bytes(self) -> int:
        """The highest use seen since `start`."""
        if self.kind == "cuda_allocated" and not self._stopping.is_set():
            import torch

            return max(self._peak, torch.cuda.max_memory_allocated())
        if self._thread is not None:
            self._take_highest()
        return self._peak

    def start(self) -> PeakMemory:
        """Begin to measure; returns itself."""
        import torch

        self._stopping.clear()
        self._peak = 0
        if torch.cuda.is_available():
            self.kind = "cuda_allocated"
            torch.cuda.reset_peak_memory_stats()
            self.start_bytes = torch.cuda.memory_allocated()
        else:
            self._before = _highest_resident()
            self._sample()
            self.start_bytes = self._peak
            self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> int:
        """End the measurement; returns the peak in bytes."""
        if self.kind == "cuda_allocated":
            self._peak = self.peak_bytes
            self._stopping.set()
        else:
            self._stopping.set()
            if self._thread is not None:
                self._thread.join()
                self._thread = None
            self._sample()
            self._take_highest()
        return self._peak

    def __enter__(self) -> PeakMemory:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _sample(self) -> None:
        import psutil

        self._peak = max(self._peak, psutil.Process().memory_info().rss)

    def _take_highest(self) -> None:
        highest = _highest_resident()
        if highest > self._before:
            self._peak = max(self._peak, highest)

    def _watch(self) -> None:
        import psutil

        process = psutil.Process()
        while not self._stopping.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, process.memory_info().rss)


def _highest_resident() -> int:
    """The highest resident set of the process so far, as Linux keeps it; 0 elsewhere."""
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
