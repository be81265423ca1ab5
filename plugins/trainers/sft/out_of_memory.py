"""Memory that runs out in the middle of a step: the step is begun again in smaller micro batches, with the same rows.

A step's gradient is a sum over its rows, divided by a count that is known before: so it is the same in one piece or in
ten, and nothing is lost or seen twice when a step starts again before the optimizer has moved.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from core import UserError
from core.console import say
from core.memory import is_out_of_memory
from core.processes import is_main, world_size

from .batches import MicroBatch, UnitRows
from .checkpoints import checkpoints
from .saving import save_last_step

if TYPE_CHECKING:
    from .trainer import SFTTrainer

UNITS = "units"
TOLD = "tunesmith/out_of_memory"  # where a rank that cannot wait for the others leaves word
Step = Callable[[Any, dict[str, Any], Any], torch.Tensor]


class TooLargeError(Exception):
    """Another rank has no room for its share of the step; raised before the gradients are exchanged."""


class NumberedRows:
    """What a DataLoader takes as `dataset`: rows of a micro batch with the numbers of their units beside them."""

    def __init__(self, rows: UnitRows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, batch: MicroBatch) -> tuple[MicroBatch, Any]:
        return batch, self.rows.__getitems__(batch)


def numbered(collate: Callable[[Any], dict[str, Any]]) -> Callable[[tuple[MicroBatch, Any]], dict[str, Any]]:
    """`collate` for `NumberedRows`: the batch keeps its `MicroBatch` under `UNITS`."""
    return lambda pair: {**collate(pair[1]), UNITS: pair[0]}


@contextmanager
def told_elsewhere(trainer: SFTTrainer) -> Iterator[None]:
    """Within: memory that runs out where no smaller pieces help becomes a `UserError` with the planner's advice.

    The optimizer makes its states in the first step, when all else is there already: on a GPU that is where a run that
    only just fits ends. That step is half done, and is not saved.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        saved = checkpoints(trainer.output_dir)
        kept = f"; go on from {str(saved[-1])!r} with --resume" if saved else ""
        raise UserError(
            f"out of memory at step {trainer.state.global_step + 1}, outside of its forward and backward passes: the "
            f"optimizer's states, a validation or a checkpoint have no room{kept}",
            help=trainer.divider.advice(),
        ) from error


def divided(batch: MicroBatch, pieces: int) -> list[MicroBatch]:
    """The units of a micro batch in at most `pieces` runs of nearly equal size, in order."""
    count = min(pieces, len(batch.units))
    share, extra = divmod(len(batch.units), count)
    made, start = [], 0
    for piece in range(count):
        size = share + (piece < extra)
        made.append(replace(batch, units=batch.units[start : start + size]))
        start += size
    return made


class Divider:
    """Computes the micro batches of a trainer's steps, in `pieces` pieces each once memory has run out.

    On several ranks each tells the others, before gradients are exchanged, whether it has come this far; then all start
    the step again together. What fails later, or where the model itself is shared out, ends the training.
    advice: what to change, asked only where nothing smaller is left.
    """

    def __init__(self, trainer: SFTTrainer, step: Step, advice: Callable[[], str]) -> None:
        self.trainer, self.step, self.advice = trainer, step, advice
        self.pieces = 1
        self.units: list[MicroBatch] = []
        self._at = 0
        self._failed = self._last = self._agreed = self._again = False

    def begin(self, batches: Sequence[dict[str, Any]]) -> None:
        """A new optimizer step, of `batches` on this rank."""
        self.units = [batch.pop(UNITS) for batch in batches]
        self._at = 0
        self._failed = self._again = False

    def train(self, model: Any, inputs: dict[str, Any], count: Any) -> torch.Tensor:
        """Forward and backward pass of the step's next micro batch; returns its loss.

        Raises `UserError` on every rank where nothing smaller is left, with a checkpoint of the last whole step.
        """
        at, final = self._at, self._at == len(self.units) - 1
        self._at += 1
        loss = self._attempt(model, count, self.units[at : at + 1], inputs, final=final)
        while loss is None:
            if world_size() > 1 and not final:
                return torch.zeros((), device=self.trainer.args.device)  # told when all come together
            self._smaller()
            loss = self._attempt(model, count, self.units[: at + 1], None, final=final)
            if loss is not None:
                self._say()
        return loss

    def agree(self) -> None:
        """Called between forward and backward pass: raises `TooLargeError` where any rank has no room."""
        if self._last and self._may_agree() and self._anyone(failed=False):
            raise TooLargeError

    def keys(self) -> dict[str, int] | None:
        """The recipe keys that would divide as this did in the end; None where nothing was halved."""
        plan = self.trainer.train_source.plan
        if self.pieces == 1:
            return None
        size = -(-plan.micro_batch_size // self.pieces)
        return {"micro_batch_size": size, "gradient_accumulation_steps": plan.accumulation * self.pieces}

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Within: parts of a micro batch after which others follow, and the ranks have nothing to agree on."""
        last, self._last = self._last, False
        gradients = self.trainer.accelerator.gradient_state
        complete = gradients.sync_gradients
        gradients._set_sync_gradients(False)  # DeepSpeed moves its optimizer with every pass that is not marked so
        try:
            yield
        finally:
            self._last = last
            gradients._set_sync_gradients(complete)

    def _attempt(
        self, model: Any, count: Any, batches: Sequence[MicroBatch], inputs: dict[str, Any] | None, *, final: bool
    ) -> torch.Tensor | None:
        """The losses of `batches` together; None where there was no room (on all ranks alike if `final`)."""
        total: torch.Tensor | None = None
        if inputs is not None and self.pieces == 1:
            parts = [inputs]
        else:
            parts = [part for piece in self._pieces(batches) for part in self._parts(piece)]
        for number, part in enumerate(parts):
            # Ranks whose forward pass found room still expect to exchange gradients in their next backward pass: so
            # all do, at the first part of a step that is begun again. What is added to a mean is averaged at the end.
            self._last = final and (number == len(parts) - 1 or (number == 0 and self._again))
            if self._failed and not self._last:
                continue
            self._agreed = False
            try:
                if self._failed:
                    raise torch.OutOfMemoryError("an earlier micro batch of this step")
                with nullcontext() if self._last or not final else self.trainer.accelerator.no_sync(model):
                    loss = self.step(model, part, count)
                total = loss if total is None else total + loss
                continue
            except TooLargeError:
                pass
            except Exception as error:
                if not is_out_of_memory(error):
                    self._leave_if_told(error)
                    raise
                self._failed = True
                self._refuse_if_too_late()
                if self._last and self._may_agree() and not self._agreed:
                    self._anyone(failed=True)
            # out of the handler, so that what the failed pass held is free
            if self._last or world_size() == 1:
                return None
        return None if self._failed else total

    def _pieces(self, batches: Sequence[MicroBatch]) -> Iterator[MicroBatch]:
        for batch in batches:
            yield from divided(batch, self.pieces)

    def _parts(self, piece: MicroBatch) -> list[dict[str, Any]]:
        """The tensors of a piece, in the parts that it is computed in."""
        source = self.trainer.train_source
        made: dict[str, Any] = dict(source.collate(UnitRows(source.dataset, source.plan).__getitems__(piece)))
        return list(made.get("parts", [made]))

    def _smaller(self) -> None:
        """Halve the pieces and forget what the step has done so far. Raises `UserError` where they are single rows."""
        self._failed, self._again = False, True
        self.trainer.forget_step()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.pieces >= self.trainer.train_source.plan.micro_batch_size:
            self._stop("one row at a time does not fit", alone=False)
        self.pieces *= 2

    def _say(self) -> None:
        plan = self.trainer.train_source.plan
        rows = -(-plan.micro_batch_size // self.pieces)
        say(
            f"out of memory at step {self.trainer.state.global_step + 1}: begun again with the same rows, from now on "
            f"{rows} at a time, {plan.accumulation * self.pieces} times accumulated"
        )

    # -------------------------------------------------------------- several ranks

    def _may_agree(self) -> bool:
        """Whether ranks can speak in the middle of a step: not where a forward pass needs all of them anyway."""
        shared = self.trainer.is_fsdp_enabled or self.trainer.is_deepspeed_enabled
        return world_size() > 1 and not shared

    def _anyone(self, *, failed: bool) -> bool:
        self._agreed = True
        flag = torch.tensor(float(failed), device=self.trainer.args.device)
        return bool(self.trainer.accelerator.reduce(flag, "sum") > 0)

    def _refuse_if_too_late(self) -> None:
        """Others may be waiting for this rank's gradients, and cannot be told otherwise."""
        if self.trainer.is_deepspeed_enabled:
            self._stop("DeepSpeed keeps what the step has computed so far, and it cannot be begun again", alone=True)
        if world_size() == 1 or (self._may_agree() and not self._agreed):
            return
        if not (self.trainer.is_fsdp_enabled or self.trainer.is_deepspeed_enabled):
            torch.distributed.distributed_c10d._get_default_store().set(TOLD, "yes")
        self._stop("while the ranks exchanged gradients", alone=True)

    def _leave_if_told(self, error: Exception) -> None:
        """A rank that went out of memory has gone, and so the exchange failed here: end with a checkpoint, too."""
        if world_size() == 1 or not self._may_agree() or not isinstance(error, RuntimeError):
            return
        if torch.distributed.distributed_c10d._get_default_store().check([TOLD]):
            self._stop("on another rank, while the ranks exchanged gradients", alone=True)

    def _stop(self, where: str, *, alone: bool) -> None:
        step = self.trainer.state.global_step
        self.trainer.forget_step()
        kept = ""
        if step and (not alone or (is_main() and self._may_agree())):
            kept = f"; saved {save_last_step(self.trainer, alone=alone)}, go on from it with --resume"
        raise UserError(f"out of memory at step {step + 1}: {where}{kept}", help=self.advice())
