"""Whether this processor computes faster in bfloat16 than in float32: tried once for each shape, and remembered."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

ROWS = 512  # tokens in a product, as in a small training step
LEAST_WIDTH = 256  # below this the products are too small for the number format to matter
GAIN = 1.3  # times float32's rate that bfloat16 must reach, for conversions cost something too
FILE = "bfloat16.json"


def bf16_is_faster(width: int, inner: int) -> tuple[bool, str]:
    """Compare a product of [512, width] and [width, inner] in both formats; (whether bfloat16 wins, the rates).

    Some milliseconds of computing; the rates are kept in the cache folder by processor, torch version, threads and
    shape. Not tried, and False, for a model narrower than 256.
    """
    import torch

    from core.processes import processor_name

    if width < LEAST_WIDTH:
        return False, "a model this small gains nothing from bfloat16"
    key = f"{processor_name()} / torch {torch.__version__} / {torch.get_num_threads()} threads / {width} x {inner}"
    known = _read()
    rates = known.get(key)
    if not rates:
        rates = [_rate(torch.float32, width, inner), _rate(torch.bfloat16, width, inner)]
        _write({**known, key: rates})
    return rates[1] > GAIN * rates[0], f"{rates[1]:,.0f} GFLOP/s in bfloat16, {rates[0]:,.0f} in float32"


def _rate(dtype: object, width: int, inner: int) -> float:
    """GFLOP/s, the best of several tries, in this process's own time."""
    import torch

    assert isinstance(dtype, torch.dtype)
    left, right = torch.ones(ROWS, width, dtype=dtype), torch.ones(inner, width, dtype=dtype)
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        torch.nn.functional.linear(left, right)
        best = min(best, time.perf_counter() - start)
    return 2 * ROWS * width * inner / best / 1e9


def _file() -> Path:
    from core.models.gguf import cache_folder

    return cache_folder() / FILE


def _read() -> dict[str, list[float]]:
    try:
        known = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # not there yet, or not ours: it is measured anew
    return known if isinstance(known, dict) else {}


def _write(known: dict[str, list[float]]) -> None:
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".partial-{os.getpid()}-{file.name}")
        partial.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, file)
    except OSError:
        return  # a folder that cannot be written costs the next run some milliseconds, and nothing else
