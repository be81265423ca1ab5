"""What is said of a step whose loss or gradient is not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core import UserError

from .checkpoints import checkpoints

if TYPE_CHECKING:
    from .trainer import SFTTrainer

SHOWN_ROWS = 10


def refused_step(trainer: SFTTrainer, what: str) -> UserError:
    """The error that ends the run at the step it is in, with the rows of its batch. what: the figure not finite."""
    step = trainer.state.global_step
    places = trainer.places(trainer.train_source.plan.rows_of_step(step))
    rows = ", ".join(places[:SHOWN_ROWS])
    rows += f" and {len(places) - SHOWN_ROWS} more" if len(places) > SHOWN_ROWS else ""
    saved = checkpoints(trainer.output_dir)
    kept = f"; the last good checkpoint is {str(saved[-1])!r}" if saved else ""
    return UserError(
        f"{what} at step {step + 1} of {trainer.state.max_steps}; rows in its batch: {rows}",
        help=f"look at these rows, lower learning_rate (or max_grad_norm), or use bf16 instead of fp16{kept}",
    )
