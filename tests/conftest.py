"""Settings for all tests, made before anything imports torch."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# the tests run side by side, one to a core: more threads than that would make each of them several times slower
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _cache_of_its_own() -> None:
    """Prepared data goes to a folder of these tests; the converted models of the user's cache are used as they are."""
    from core.models.gguf import cache_folder

    kept = cache_folder() / "gguf"
    kept.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-cache-"))
    (folder / "gguf").symlink_to(kept, target_is_directory=True)
    os.environ["TUNESMITH_CACHE"] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


_cache_of_its_own()
