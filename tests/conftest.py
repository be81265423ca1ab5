"""Settings for all tests, made before anything imports torch."""

from __future__ import annotations

import os

# the tests run side by side, one to a core: more threads than that would make each of them several times slower
os.environ.setdefault("OMP_NUM_THREADS", "1")
