"""Peak memory of a stretch of work."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Literal

SAMPLE_SECONDS = 0.01


class PeakMemory:
    """Measures the peak memory between `start` and `stop`, or of a `with` block.

    On CUDA: bytes of tensors allocated on the current device at their highest (`kind` is "cuda_allocated"). Otherwise
    the process's highest resident set, sampled every 10 ms (`kind` is "rss_sampled"): it includes the interpreter and
    all libraries. `peak_bytes` may be read while it runs. CUDA keeps one peak per device: do not nest on CUDA.
    """

    def __init__(self) -> None:
        self.kind: Literal["cuda_allocated", "rss_sampled"] = "rss_sampled"
        self._peak = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def peak_bytes(self) -> int:
        """The highest use seen since `start`."""
        if self.kind == "cuda_allocated" and not self._stopping.is_set():
            import torch

            return max(self._peak, torch.cuda.max_memory_allocated())
        return self._peak

    def start(self) -> PeakMemory:
        """Begin to measure; returns itself."""
        import torch

        self._stopping.clear()
        self._peak = 0
        if torch.cuda.is_available():
            self.kind = "cuda_allocated"
            torch.cuda.reset_peak_memory_stats()
        else:
            self._sample()
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

    def _watch(self) -> None:
        import psutil

        process = psutil.Process()
        while not self._stopping.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, process.memory_info().rss)
