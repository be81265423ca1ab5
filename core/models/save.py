"""Saving the tuned model in the Hugging Face layout, whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.models.loading import quiet
from core.models.state import full_state_dict, unwrapped
from core.types import Plan

if TYPE_CHECKING:
    import torch

    from core.types import Tokenizer

# Written by peft beside an adapter; the run writes a model card of its own.
FOREIGN_FILES = ("README.md",)


def save_model(plan: Plan, model: torch.nn.Module, tokenizer: Tokenizer) -> None:
    """Write the tuned model and its tokenizer into `plan.output_dir`. Called on every rank; the main one's files count.

    An adapter's own `save` runs on every rank too, so that it may gather shards (`full_state_dict`).

    Everything is written to a folder beside its final place and then moved file by file, weights before the
    configuration that makes them a model. Raises `UserError` naming the folder where it cannot be written; nothing
    half-written is left.
    """
    from core.processes import barrier, is_main

    plain = unwrapped(model)
    # the gathering of shards needs every rank; what the others write goes nowhere
    state = None if plan.adapter.save else full_state_dict(model)
    with writing_to(plan.output_dir) if is_main() else _scratch_folder() as unfinished, quiet():
        if plan.adapter.save:
            plan.adapter.save(plan, plain, unfinished)
        elif is_main():
            _save_pretrained(plain, unfinished, state or {})
        if is_main():
            tokenizer.save_pretrained(unfinished)
            for name in FOREIGN_FILES:
                (unfinished / name).unlink(missing_ok=True)
    barrier()


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as name:
        yield Path(name)


@contextmanager
def writing_to(folder: Path) -> Iterator[Path]:
    """A fresh folder inside `folder`, whose files are moved into `folder` at the end, or removed if anything fails.

    Raises `UserError` where the disk is full or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield unfinished
        open_to_others(unfinished)
        # config.json and adapter_config.json make a folder a model: they come last
        for file in sorted(unfinished.iterdir(), key=lambda file: (file.suffix == ".json", file.name)):
            os.replace(file, folder / file.name)
    except OSError as error:
        raise _unwritable(folder, error) from error
    except Exception as error:
        # safetensors wraps what the operating system said in an error of its own
        if _is_full_disk(error):
            raise _unwritable(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def open_to_others(folder: Path) -> None:
    """Give the weight files in `folder` the mode of any file written there.

    safetensors 0.8 leaves them readable by their owner alone, whatever the umask (issue 782 of its repository), and a
    team could not load what one of them trained.
    """
    probe = folder / ".mode"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for file in folder.glob("*.safetensors"):
        file.chmod(mode)


def _is_full_disk(error: Exception) -> bool:
    text = str(error)
    return os.strerror(errno.ENOSPC) in text or os.strerror(errno.EDQUOT) in text


def _unwritable(folder: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return UserError(
        f"the model cannot be saved to {str(folder)!r}: {reason.lower()}",
        help="make room there, then go on with --resume"
        if full
        else "make the folder writable, or choose another output_dir",
    )


def _save_pretrained(model: torch.nn.Module, folder: Path, state: dict[str, Any]) -> None:
    """`save_pretrained` with the gathered `state`, and a config that generates as the base's does."""
    saver: Any = model
    if hasattr(model, "peft_config"):
        # new tokens are saved as rows of their own; saving whole embeddings would only repeat the base model
        saver.save_pretrained(str(folder), state_dict=state, save_embedding_layers=False)
        return
    if not hasattr(model, "save_pretrained"):
        raise TypeError(f"the adapter built a {type(model).__name__}, which needs a save function of the adapter's own")
    saver.config.use_cache = True
    _mend_generation_config(saver)
    try:
        saver.save_pretrained(str(folder), state_dict=state)
    finally:
        saver.config.use_cache = False


def _mend_generation_config(model: Any) -> None:
    """Some bases carry sampling values with sampling off, which transformers loads but refuses to save."""
    generation = getattr(model, "generation_config", None)
    if generation is None:
        return
    try:
        generation.validate(strict=True)
    except ValueError:
        generation.do_sample = True
