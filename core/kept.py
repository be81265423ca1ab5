"""What training leaves beside the model: enough to finish a run whose scoring broke off without training again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.results import TrainResult
from core.types import Plan
from core.whole_file import write_whole

if TYPE_CHECKING:
    from core.types import Module

TRAINING_FILE = "training.json"


def keep_training(plan: Plan, trained: TrainResult) -> TrainResult:
    """Write what training did into the output folder, on the main process, whole or not at all.

    Returns it without the model, which need not be held any longer than it is scored. Raises `UserError` on every rank
    where the file cannot be written.
    """
    from core.processes import on_main

    nothing: Any = None
    kept = replace(_counted(trained), model=nothing)
    on_main(lambda: _write(plan.output_dir, kept))
    return kept


def _write(folder: Path, kept: TrainResult) -> None:
    values: dict[str, Any] = asdict(kept)
    del values["model"]
    path = folder / TRAINING_FILE
    try:
        write_whole(path, json.dumps(values) + "\n")
    except OSError as error:
        raise UserError(
            f"{str(path)!r} cannot be written: {error.strerror or error}",
            help=f"the tuned model is saved; make room there, then score it with {eval_command(folder)}",
        ) from error


def training_of(folder: Path, model: Module) -> TrainResult | None:
    """What training left in `folder`, for a `model` that was loaded from it; None where there is nothing."""
    path = folder / TRAINING_FILE
    if not path.is_file():
        return None
    try:
        return TrainResult(**{**json.loads(path.read_text(encoding="utf-8")), "model": model})
    except (ValueError, TypeError) as error:
        raise UserError(f"{str(path)!r} cannot be read: {error}", help="get an intact copy of the run") from error


@contextmanager
def scored_later(plan: Plan) -> Iterator[None]:
    """Within: whatever goes wrong is told together with how to go on, because the model is saved by now."""
    from core.console import say_error

    command = eval_command(plan.output_dir)
    try:
        yield
    except UserError as error:
        if not (plan.output_dir / "run.json").is_file():  # with it the run is scored, and the error says how to go on
            help = f"{error.help}\n  " if error.help else ""
            error.help = f"{help}the tuned model is saved; score it, going on from here, with {command}"
        raise
    except BaseException:
        say_error(f"scoring broke off; the tuned model is saved in {plan.output_dir}")
        say_error(f"help: score it, going on from here, with {command}")
        raise


def eval_command(folder: Path) -> str:
    """The command that scores the run in `folder`."""
    return _command("eval", folder)


def report_command(folder: Path) -> str:
    """The command that writes the report of the run in `folder` anew."""
    return _command("report", folder)


def _command(name: str, folder: Path) -> str:
    working = Path.cwd()
    shown = folder.relative_to(working) if folder.is_relative_to(working) and folder != working else folder
    return f"`tunesmith {name} {shlex.quote(str(shown))}`"


def _counted(trained: TrainResult) -> TrainResult:
    from core.models import parameter_counts

    if trained.parameters_total:
        return trained
    trained_parameters, total = parameter_counts(trained.model)
    return replace(trained, parameters_trained=trained_parameters, parameters_total=total)
