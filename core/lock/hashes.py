"""SHA-256 of what a run reads: files, folders, a tokenizer, the code of a package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.types import Tokenizer

# what a model folder is read from; a README or a picture changes nothing
MODEL_SUFFIXES = (".safetensors", ".bin", ".pt", ".gguf", ".json", ".jinja", ".model", ".txt", ".py", ".tiktoken")
CODE_SUFFIXES = (".py", ".json", ".j2")
READERS = 8  # hashing leaves Python's lock, so the shards of a large model are read side by side


def file_hash(path: Path) -> str:
    """SHA-256 of a file; read once as long as its size and time stay the same."""
    status = path.stat()
    return _file_hash(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _file_hash(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_hashes(folder: Path, suffixes: tuple[str, ...] = (), *, deep: bool = True) -> dict[str, str]:
    """The hash of each file in `folder`, by its path inside; without hidden ones. suffixes: only files that end so."""
    found = folder.rglob("*") if deep else folder.iterdir()
    files = sorted(
        file
        for file in found
        if file.is_file()
        and (not suffixes or file.suffix in suffixes)
        and not any(part.startswith(".") or part == "__pycache__" for part in file.relative_to(folder).parts)
    )
    return files_by_name({file.relative_to(folder).as_posix(): file for file in files})


def files_by_name(files: Mapping[str, Path]) -> dict[str, str]:
    """The hash of each of the named files."""
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(files, pool.map(file_hash, files.values()), strict=True))


def text_hash(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """One hash of everything that decides which ids a text becomes, added and special tokens included."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model = _slow(tokenizer) if backend is None else _fast(json.loads(backend.to_str()))
    roles = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return text_hash(json.dumps({**model, "roles": roles}, sort_keys=True))


def _fast(backend: dict[str, object]) -> dict[str, object]:
    # truncation and padding are set by the calls that need them
    return {key: value for key, value in backend.items() if key not in ("truncation", "padding")}


def _slow(tokenizer: Tokenizer) -> dict[str, object]:
    return {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}


def code_hash(places: Iterable[Path]) -> str:
    """One hash of the code in packages or modules: tells two states of an installation apart that bear one version."""
    parts = {
        place.name: folder_hashes(place, CODE_SUFFIXES) if place.is_dir() else file_hash(place) for place in places
    }
    return text_hash(json.dumps(parts, sort_keys=True))
