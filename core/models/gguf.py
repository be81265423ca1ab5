"""GGUF files: converted once into an ordinary model folder in the user's cache, and loaded from there ever after."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import struct
import sys
import tempfile
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.models.loading import explained, quiet
from core.models.save import open_to_others

# Raise it when a conversion comes out different: folders of earlier versions are then left alone and made anew.
CONVERTER_VERSION = 1
ORIGIN_FILE = "origin.json"
# How the tokenizer families that transformers reads rightly split text before merging (`tokenizer.ggml.pre`).
TRUSTED_SPLITS = (
    *("default", "gpt-2", "llama-bpe", "llama3", "llama-v3", "llama4", "qwen2", "deepseek-r1-qwen"),
    *("tekken", "gpt-4o", "falcon3", "dbrx", "smaug-bpe"),
)


def cache_folder() -> Path:
    """Where conversions are kept: $TUNESMITH_CACHE, else $XDG_CACHE_HOME/tunesmith, else ~/.cache/tunesmith."""
    if chosen := os.environ.get("TUNESMITH_CACHE"):
        return Path(chosen).expanduser().absolute()
    parent = os.environ.get("XDG_CACHE_HOME")
    return (Path(parent) if parent else Path.home() / ".cache").absolute() / "tunesmith"


def converted_folder(file: Path) -> Path:
    """The model folder made from a GGUF file: dequantised weights, tokenizer, chat template.

    Converted at the first call; other processes, of this run or another, wait for it. Keyed by the file's content.
    Raises `UserError` where the package `gguf` is missing, the file cannot be read, or the cache has no room.
    """
    from filelock import FileLock

    from core.lock.hashes import file_hash

    root = cache_folder() / "gguf"
    folder = root / f"{file_hash(file)[:20]}-v{CONVERTER_VERSION}"
    if folder.is_dir():
        return folder
    _require_gguf(file)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{folder.name}.lock"):
            if not folder.is_dir():
                _convert_into(file, folder)
    except OSError as error:
        reason = "no space left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise UserError(
            f"the converted model cannot be written to {str(root)!r}: {reason}",
            help="make room there, or set TUNESMITH_CACHE to another folder",
        ) from error
    return folder


def _require_gguf(file: Path) -> None:
    from importlib.util import find_spec

    if find_spec("gguf") is None:
        raise UserError(
            f"reading {file.name!r} needs the package gguf, which is not installed",
            help="pip install 'tunesmith[quickstart]'",
        )


def _convert_into(file: Path, folder: Path) -> None:
    """Convert beside `folder`, then rename: a conversion that was cut off leaves nothing that looks finished."""
    from core.console import say
    from core.lock.hashes import file_hash

    say(f"converting {file.name} (once; kept in {folder.parent}) ...")
    for left_over in folder.parent.glob(f".{folder.name}-*"):
        # of a process that was killed: the lock is ours, so nobody is at work on it
        shutil.rmtree(left_over, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        # an OSError while writing is the cache's fault and explained by the caller, one while reading the file's
        with quiet():
            # the progress bar of this conversion heeds no setting
            bar = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
            with explained("GGUF file", str(file)), bar:
                try:
                    model, tokenizer = _read(file)
                except (struct.error, IndexError, OverflowError) as error:
                    raise ValueError("the file is damaged or cut off") from error
            model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
        origin = {"file": file.name, "sha256": file_hash(file), "converter": CONVERTER_VERSION}
        (unfinished / ORIGIN_FILE).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
        open_to_others(unfinished)
        os.rename(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _read(file: Path) -> tuple[Any, Any]:
    """(dequantised model in float32, tokenizer) of a GGUF file."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    arguments: dict[str, Any] = {"gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **arguments)
    _mend_tokenizer(tokenizer, _metadata(file, "tokenizer.ggml.pre"))
    # without it, newer versions of transformers keep the weights packed, and a packed model cannot be saved
    if config := getattr(transformers, "GgufConfig", None):
        arguments["quantization_config"] = config(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=torch.float32, **arguments)
    if len(tokenizer) > model.config.vocab_size:
        tokenizer = _without_made_up_tokens(tokenizer, model.config.vocab_size)
    tokenizer.model_max_length = model.config.max_position_embeddings
    return model, tokenizer


def _without_made_up_tokens(tokenizer: Any, vocabulary_size: int) -> Any:
    """transformers adds the end and unknown tokens that a family usually has, even where the file has others."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["added_tokens"] = [token for token in backend["added_tokens"] if token["id"] < vocabulary_size]
    kept = {token["content"] for token in backend["added_tokens"]} | set(backend["model"]["vocab"])
    roles = {role: token for role, token in tokenizer.special_tokens_map.items() if token in kept}
    make: Any = PreTrainedTokenizerFast
    mended = make(tokenizer_object=Tokenizer.from_str(json.dumps(backend)), **roles)
    mended.chat_template = tokenizer.chat_template
    return mended


def _metadata(file: Path, key: str) -> str | None:
    """One text entry of the file's header."""
    from gguf import GGUFReader

    field = GGUFReader(str(file)).fields.get(key)
    return None if field is None else str(field.contents())


def _mend_tokenizer(tokenizer: Any, split: str | None) -> None:
    """Restore how the text is split before merging, which the GGUF file names but transformers does not read.

    `smollm` splits digits one by one; without it "\\n\\n1." becomes three tokens instead of two.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    from core.console import say

    if split == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        )
    elif split is not None and split not in TRUSTED_SPLITS:
        say(f"warning: the way this file splits text ({split!r}) is unknown here; tokens may differ from the original")
