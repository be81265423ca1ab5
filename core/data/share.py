"""The main process prepares the data, the others take over what it made."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import DataError, UserError
from core.processes import barrier, gather_objects, is_main, world_size
from core.types import Data, Plan

if TYPE_CHECKING:
    from datasets import Dataset


def on_main_first(plan: Plan, work: Callable[[], Data]) -> Data:
    """`work()` done by the main process and read by all others; they do it themselves where they cannot see its files.

    If the main process refuses the data, all ranks raise the same error.
    """
    if world_size() == 1:
        return work()
    data: Data | None = None
    failure: BaseException | None = None
    outcome: list[dict[str, Any]] = []
    if is_main():
        try:
            data = work()
            outcome = [{"folder": _write(plan, data), "test": data.test, "stats": data.stats, "pad": data.pad_token_id}]
        except BaseException as error:
            # the others wait for this outcome: they must hear of any failure, whatever it is
            failure = error
            user = isinstance(error, UserError)
            outcome = [
                {"error": str(error), "help": error.help if isinstance(error, UserError) else None, "user": user}
            ]
    (made,) = gather_objects(outcome)
    if failure is not None:
        raise failure
    if "error" in made:
        if made["user"]:
            raise DataError(made["error"], help=made["help"])
        raise RuntimeError(f"the main process could not prepare the data: {made['error']}")
    if data is None:
        data = _read(made) or work()
    barrier()
    if is_main():
        shutil.rmtree(made["folder"])
    return data


def _write(plan: Plan, data: Data) -> str:
    """The folder, in `output_dir`, that holds `data` until all have read it.

    Raises `UserError` if it cannot be written.
    """
    folder = None
    try:
        plan.output_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".prepared-", dir=plan.output_dir))
        data.train.save_to_disk(str(folder / "train"))
        if data.val is not None:
            data.val.save_to_disk(str(folder / "val"))
    except OSError as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise UserError(
            f"output_dir {str(plan.output_dir)!r} cannot be written: {error.strerror or error}",
            help="make room there, or choose another output_dir",
        ) from error
    return str(folder)


def _read(made: dict[str, Any]) -> Data | None:
    """The data that the main process wrote; None where its folder is not visible, as on another machine."""
    from datasets import load_from_disk

    folder = Path(made["folder"])
    if not (folder / "train").is_dir():
        return None

    def load(path: Path) -> Dataset:
        # in memory, because the folder goes away once all have read it
        return load_from_disk(str(path), keep_in_memory=True)

    val = load(folder / "val") if (folder / "val").is_dir() else None
    return Data(load(folder / "train"), val, made["test"], made["stats"], pad_token_id=made["pad"])
