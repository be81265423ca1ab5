"""Settings for all tests, made before anything imports torch."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run, so that a change is judged by itself; `--hypothesis-profile=search` looks for new
# ones. None is refused for being slow: how long one takes says how busy the machine is.
settings.register_profile(
    "steady", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search")
settings.load_profile("steady")

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


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from core.testing.tiny import make_tiny_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    make_tiny_tokenizer(folder)
    return folder


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> Any:
    """The tiny ChatML tokenizer, fresh for every test."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(tokenizer_folder))


@pytest.fixture
def bos_tokenizer(tokenizer_folder: Path) -> Any:
    """The tiny tokenizer with `<s>` in its vocabulary and in front of every text."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder))
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is `tmp_path`, so that messages show short paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
