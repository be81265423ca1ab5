"""Trains the tiny model as one rank of a launched run; the main process prints the result as the last line, in JSON.

usage: train_tiny.py MODEL_FOLDER WORK_FOLDER JSON, with the recipe's keys (and `rows`, `resume`, `slow`) in JSON;
`stream` is a file of alpaca rows to stream, `spoil_rank` the rank whose loss is no number from step `spoil_step` on
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from core import UserError
from core.console import say
from core.data.collect import Limits
from core.data.stream import Stream
from core.launched import leave
from core.processes import barrier, gather_objects, rank, start_processes, stop_processes, world_size
from plugins.trainers.sft.batches import MicroBatch, UnitRows
from plugins.trainers.sft.checkpoints import checkpoints
from tests.core.data.making import dataset
from tests.core.plans import make_test_data, make_test_plan

VALIDATION = 5  # rows


def main() -> int:
    model_folder, folder, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    rows, resume, slow = settings.pop("rows", 26), settings.pop("resume", False), settings.pop("slow", 0.0)
    spoil, spoil_step = settings.pop("spoil_rank", None), settings.pop("spoil_step", 1)
    stream = settings.pop("stream", None)
    plan = make_test_plan(folder, model_folder, resume_from=folder / "out" if resume else None, **settings)
    start_processes(plan)
    from transformers import AutoTokenizer

    model = plan.adapter.build(plan)
    if slow:
        model.register_forward_hook(lambda *_: time.sleep(slow))
    if spoil == rank():
        _spoil_loss(spoil_step)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    data = make_test_data(rows, val=VALIDATION)
    if stream:
        limits = Limits(256, "drop", rows=8)
        data = replace(data, stream=Stream([dataset(stream)], tokenizer, limits, 8, 42))
    training = plan.trainer.prepare(plan, model, tokenizer, data)
    trained = _noted_units()
    try:
        result = training.run()
    except UserError as error:
        kept = gather_objects([_as_saved(model, plan.output_dir)])
        say(json.dumps({"error": error.message, "help": error.help, "ranks": gather_objects([rank()]), "kept": kept}))
        barrier()  # the launcher ends every rank at the first that fails: not before the main one has spoken
        return 2
    except KeyboardInterrupt as stop:
        say(f"interrupted: {stop}")
        with suppress(KeyboardInterrupt):  # the launcher hands its own signal on
            barrier()
        return 130
    weights = sum(float(parameter.double().abs().sum()) for parameter in result.model.parameters())
    say(
        json.dumps(
            {
                "losses": list(result.losses),
                "tokens": result.tokens,
                "history": list(result.history),
                "weights": weights,
                "ranks": gather_objects([rank()]),
                "world_size": world_size(),
                "units": gather_objects([trained]),
            }
        )
    )
    stop_processes()
    return 0


def _spoil_loss(step: int) -> None:
    """Make the loss no number from `step` on, where a step has one micro batch."""
    from plugins.trainers.sft import trainer

    whole, calls = trainer.summed_loss, 0

    def spoiled(model: Any, *inputs: Any) -> Any:
        nonlocal calls
        calls += model.training
        loss = whole(model, *inputs)
        return loss * float("nan") if calls >= step else loss

    trainer.summed_loss = spoiled


def _as_saved(model: Any, output_dir: Path) -> bool:
    """Whether the model's weights are those of the latest checkpoint."""
    from safetensors.torch import load_file

    saved = load_file(checkpoints(output_dir)[-1] / "model.safetensors")
    weights = {name: parameter for name, parameter in model.named_parameters() if name in saved}
    return len(weights) == len(saved) and all(bool((weights[name] == saved[name]).all()) for name in saved)


def _noted_units() -> list[int]:
    """The units that this rank trains on, from now on."""
    seen: list[int] = []
    whole = UnitRows.__getitems__

    def noted(self: UnitRows, batch: MicroBatch) -> Any:
        if batch.counted and len(self) != VALIDATION:
            seen.extend(batch.units)
        return whole(self, batch)

    UnitRows.__getitems__ = noted  # type: ignore[method-assign]
    return seen


if __name__ == "__main__":
    leave(main())
