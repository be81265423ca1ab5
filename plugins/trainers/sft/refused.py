"""What is said of a step whose loss or gradient is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core import UserError

from .checkpoints import checkpoints

SHOWN_ROWS = 10


def refused_step(what: str, step: int, steps: int, places: Sequence[str], output_dir: Path) -> UserError:
    """The error that ends the run. what: the figure that is not finite. step: from 1. places: of the batch's rows."""
    rows = ", ".join(places[:SHOWN_ROWS])
    rows += f" and {len(places) - SHOWN_ROWS} more" if len(places) > SHOWN_ROWS else ""
    saved = checkpoints(output_dir)
    kept = f"; the last good checkpoint is {str(saved[-1])!r}" if saved else ""
    return UserError(
        f"{what} at step {step} of {steps}; rows in its batch: {rows}",
        help=f"look at these rows, lower learning_rate (or max_grad_norm), or use bf16 instead of fp16{kept}",
    )
