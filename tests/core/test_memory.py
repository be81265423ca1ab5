from __future__ import annotations

import os
import sys
import threading

import pytest
import torch

from core import memory as memory_module
from core.memory import KERNEL_CACHES, KERNELS, PeakMemory, keep_few_kernels

SIZE = 64 * 2**20

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="these measure the process, not a GPU")


def test_a_block_that_was_freed_again_still_counts() -> None:
    with PeakMemory() as before:
        pass
    with PeakMemory() as memory:
        block = bytearray(b"x" * SIZE)
        memory._sample()
        del block
    assert memory.kind == "rss_sampled"
    assert memory.peak_bytes >= before.peak_bytes + SIZE * 0.9


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the highest resident set")
def test_a_block_between_two_samples_counts_where_the_system_has_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "SAMPLE_SECONDS", 3600)
    highest = memory_module._highest_resident()
    memory = PeakMemory().start()
    block = bytearray(highest - memory._peak + SIZE)  # more than the process ever held
    block[::4096] = b"x" * len(block[::4096])
    del block
    running = memory.peak_bytes
    assert highest + SIZE // 2 < running <= memory.stop()


def test_it_samples_by_itself() -> None:
    memory = PeakMemory().start()
    start = memory.peak_bytes
    block = bytearray(b"x" * SIZE)
    for _ in range(500):
        if memory.peak_bytes > start + SIZE // 2:
            break
        threading.Event().wait(0.01)
    peak = memory.stop()
    assert len(block) == SIZE
    assert peak > start + SIZE // 2
    assert peak == memory.peak_bytes
    assert not any(thread.name == "peak-memory" for thread in threading.enumerate())


def test_it_tells_what_it_began_with() -> None:
    block = bytearray(b"x" * SIZE)
    with PeakMemory() as memory:
        more = bytearray(b"x" * SIZE)
    assert len(block) == len(more)
    assert memory.start_bytes > SIZE
    assert memory.peak_bytes >= memory.start_bytes


def test_few_compiled_products_are_kept_unless_the_environment_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = KERNEL_CACHES
    environment = {first: "7"}
    monkeypatch.setattr(os, "environ", environment)
    keep_few_kernels()
    assert environment == {first: "7", second: str(KERNELS)}
