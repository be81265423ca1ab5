"""Checkpoints that are either whole or not there, and what must be remembered to go on from one."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import UserError
from core.models import open_to_others
from core.processes import barrier, gather_objects, is_main

TRAINER_STATE = "trainer_state.json"
PROGRESS = "tunesmith_progress.json"
NAME = re.compile(r"checkpoint-(\d+)")


@dataclass
class Progress:
    """What training has reached, kept up to date while it goes on.

    losses: mean loss per trained token of every optimizer step. tokens: trained tokens seen. seconds: spent so far.
    setup: facts of the batch plan that must stay as they are to go on. earlier_seconds: how long the processes of this
    run lasted that came before this one, each up to the checkpoint it left. peak_bytes: the most memory that any took.
    """

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    setup: Mapping[str, Any] = field(default_factory=dict)
    earlier_seconds: float = 0.0
    peak_bytes: int = 0

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return len(self.losses)


def find_checkpoint(asked: Path | None, output_dir: Path, *, required: bool) -> Path | None:
    """The checkpoint to resume from: `asked` itself, or the latest whole one in it where it is the output folder.

    Raises `UserError` if `asked` is not a whole checkpoint, or if there is none and one is `required`.
    """
    if asked is None:
        return None
    if asked != output_dir:
        if not is_whole(asked):
            raise UserError(
                f"{str(asked)!r} is not a whole checkpoint: {TRAINER_STATE} or {PROGRESS} is missing",
                help="name a checkpoint-<step> folder, or resume from the latest one",
            )
        return asked
    found = [folder for folder in checkpoints(output_dir) if is_whole(folder)]
    if not found and required:
        raise UserError(f"no checkpoint in {str(output_dir)!r} to resume from", help="start anew with --overwrite")
    return found[-1] if found else None


def checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest step first."""
    if not output_dir.is_dir():
        return []
    named = [(NAME.fullmatch(entry.name), entry) for entry in output_dir.iterdir() if entry.is_dir()]
    return [entry for _, entry in sorted((int(match.group(1)), entry) for match, entry in named if match)]


def is_whole(folder: Path) -> bool:
    """Whether `folder` has what is written last."""
    return (folder / TRAINER_STATE).is_file() and (folder / PROGRESS).is_file()


def read_progress(checkpoint: Path) -> Progress:
    """What was recorded in a whole checkpoint. Raises `UserError` where it cannot be read."""
    try:
        return Progress(**json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        help = "go on from an earlier one with --resume FOLDER/checkpoint-N, or start anew with --overwrite"
        raise UserError(f"checkpoint {str(checkpoint)!r} is damaged: {PROGRESS} is not whole", help=help) from error


def write_progress(folder: Path, progress: Progress) -> None:
    """Record `progress` in a checkpoint that is being written."""
    (folder / PROGRESS).write_text(json.dumps(vars(progress)), encoding="utf-8")


def refuse_other_setup(progress: Progress, setup: Mapping[str, Any], checkpoint: Path) -> None:
    """Raise `UserError` where the data or the division into steps is not the one the checkpoint was trained with."""
    changed = [
        f"{name} {progress.setup[name]} -> {setup[name]}" for name in setup if progress.setup.get(name) != setup[name]
    ]
    if changed:
        raise UserError(
            f"{str(checkpoint)!r} was trained with another order of rows: {', '.join(changed)}",
            help="resume with its data, seed and rows per step (micro batch x accumulation x processes)",
        )


@contextmanager
def new_checkpoint(folder: Path, *, alone: bool = False) -> Iterator[Path]:
    """A folder to write a checkpoint into, on every rank; it becomes `folder` in one move once all ranks are done.

    alone: only this rank writes, and no other is waited for. Raises `UserError` on every rank where the disk is full or
    writing fails on any; nothing half-written stays then.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    gathered = list if alone else gather_objects
    failure = _made_anew(partial) if alone or is_main() else []
    # where there is no folder, no rank may begin to write: the others would wait for it in vain
    failures = gathered(failure)
    if not failures:
        try:
            yield partial
        except Exception as error:
            if not _is_write_failure(error):
                raise
            failure.append(_reason(error))
        failures = gathered(failure)
    if not failures and (alone or is_main()):
        try:
            open_to_others(partial)
            _move_into_place(partial, folder)
        except OSError as error:
            failure.append(_reason(error))
    failures = failures or gathered(failure)
    if failures:
        free = _free(folder)
        if alone or is_main():
            shutil.rmtree(partial, ignore_errors=True)
        raise UserError(
            f"checkpoint {str(folder)!r} cannot be written: {failures[0]} ({free} free)",
            help="make room (save_total_limit keeps fewer checkpoints) and resume; earlier checkpoints are untouched",
        )
    if not alone:
        barrier()


def _made_anew(partial: Path) -> list[str]:
    """Make the folder, without what an attempt before left in it; what went wrong, if anything did."""
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        return [_reason(error)]
    return []


def _move_into_place(partial: Path, folder: Path) -> None:
    """Give `partial` its final name; one of that name, left by an earlier attempt, makes way only now."""
    if folder.exists():
        aside = folder.with_name(f".partial-old-{folder.name}")
        os.replace(folder, aside)
        os.replace(partial, folder)
        shutil.rmtree(aside)
    else:
        os.replace(partial, folder)


def _is_write_failure(error: Exception) -> bool:
    """safetensors and torch wrap a failed write in errors of their own."""
    text = str(error).lower()
    return isinstance(error, OSError) or any(
        sign in text for sign in ("os error", "no space left", "pytorchstreamwriter", "inline_container", "iostream")
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "no space left on device" if "no space left" in str(error).lower() else str(error).splitlines()[0]


def _free(folder: Path) -> str:
    existing = next(parent for parent in folder.parents if parent.exists())
    return f"{shutil.disk_usage(existing).free / 1e9:.1f} GB"
