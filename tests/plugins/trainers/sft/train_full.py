"""One rank of a training, first straight, then with an allocator that fails on one rank alone; a JSON line for each.

usage: train_full.py MODEL_FOLDER WORK_FOLDER JSON, with the recipe's keys and `full_rank` in JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from core.console import say
from core.launched import leave
from core.processes import rank, start_processes
from tests.core.plans import make_test_data, make_test_plan

ROOM, FROM_CALL = 2, 2  # rows that find room, and calls of the model before it becomes scarce


def main() -> int:
    model_folder, folder, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    full_rank = settings.pop("full_rank")
    for name in ("straight", "full"):
        (folder / name).mkdir(exist_ok=True)
        plan = make_test_plan(folder / name, model_folder, **settings)
        start_processes(plan)
        from transformers import AutoTokenizer

        model = plan.adapter.build(plan)
        tokenizer = AutoTokenizer.from_pretrained(model_folder)
        training = plan.trainer.prepare(plan, model, tokenizer, make_test_data(26))
        if rank() == full_rank and name != "straight":
            fill(model)
        losses = list(training.run().losses)
        weights = sum(float(parameter.double().abs().sum()) for parameter in model.parameters())
        say(json.dumps({"name": name, "losses": losses, "weights": weights}))
    return 0


def fill(model: Any) -> None:
    """Let passes over more than `ROOM` rows fail as an allocator does, from call `FROM_CALL` on."""
    calls = [0]

    def refuse(module: Any, args: Any, kwargs: Any) -> None:
        calls[0] += module.training
        if calls[0] > FROM_CALL and len(kwargs["input_ids"]) > ROOM:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 MiB")

    model.register_forward_pre_hook(refuse, with_kwargs=True)


if __name__ == "__main__":
    leave(main())
