"""What a checkpoint is made of, and when one is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import rotate_checkpoints

from core.processes import is_main, process_seconds

from .checkpoints import TRAINER_STATE, new_checkpoint, write_progress

if TYPE_CHECKING:
    from .trainer import SFTTrainer


def save_checkpoint(trainer: SFTTrainer) -> None:
    """All of a checkpoint, or nothing of it; older ones go only when it stands. Call it on every rank.

    Raises `UserError` on every rank where it cannot be written on any.
    """
    if trainer.saved_step == trainer.state.global_step:
        return
    folder = _folder(trainer)
    with trainer.paused():
        best = folder.with_name(f"checkpoint-{trainer.state.best_global_step}")
        if best == folder or best.is_dir():
            trainer.state.best_model_checkpoint = str(best)
        with new_checkpoint(folder) as partial:
            _write_parts(trainer, partial)
        trainer.saved_step = trainer.state.global_step
        if is_main():
            rotate_checkpoints(
                output_dir=str(trainer.output_dir),
                save_total_limit=trainer.args.save_total_limit,
                best_model_checkpoint=trainer.state.best_model_checkpoint,
                use_mtime=True,
            )


def save_last_step(trainer: SFTTrainer, *, alone: bool) -> Path:
    """A checkpoint of the weights as the last whole step left them. alone: the other ranks take no part in it."""
    folder = _folder(trainer)
    if alone and not folder.exists():
        with new_checkpoint(folder, alone=True) as partial:
            _write_parts(trainer, partial)
    elif not alone:
        save_checkpoint(trainer)
    return folder


def _folder(trainer: SFTTrainer) -> Path:
    return trainer.output_dir / f"checkpoint-{trainer.state.global_step}"


def _write_parts(trainer: SFTTrainer, partial: Path) -> None:
    trainer.save_model(str(partial), _internal_call=True)
    (partial / "training_args.bin").unlink(missing_ok=True)
    if not trainer.args.save_only_model:
        trainer._save_optimizer_and_scheduler(str(partial))
        trainer._save_scaler(str(partial))
        trainer._save_rng_state(str(partial))
    if is_main():
        _write_state(trainer, partial)


def _write_state(trainer: SFTTrainer, partial: Path) -> None:
    trainer.tokenizer.save_pretrained(str(partial))
    for callback in (*trainer.callback_handler.callbacks, trainer.control):
        if isinstance(callback, ExportableState):
            states: Any = trainer.state.stateful_callbacks
            states[type(callback).__name__] = callback.state()
    progress = trainer.progress
    peak = max(progress.peak_bytes, trainer.memory.peak_bytes if trainer.memory else 0)
    earlier = progress.earlier_seconds + process_seconds()
    reached = dataclasses.replace(progress, seconds=trainer.seconds(), earlier_seconds=earlier, peak_bytes=peak)
    write_progress(partial, reached)
    trainer.state.save_to_json(str(partial / TRAINER_STATE))
