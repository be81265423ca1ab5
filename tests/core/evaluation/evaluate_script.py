"""Scores the tiny model on as many processes as the launcher starts; the main one prints the answers as JSON.

Arguments: the model's folder, a work folder, `whole` or `sharded` (weights spread over the ranks).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from core.data import prepare
from core.errors import UserError
from core.evaluation import evaluate
from core.evaluation.metrics import ScoringError
from core.host import load_host
from core.kept import keep_training
from core.launched import leave
from core.models import load_tokenizer
from core.processes import is_main, on_main, start_processes, stop_processes
from core.results import TrainResult
from tests.core.evaluation.making import make_eval_plan

METRICS = [{"type": "accuracy"}, {"type": "perplexity"}, {"type": "latency"}]
NEAREST = {"shots": 2, "choose": "nearest"}


def shard(model: Any) -> None:
    import torch
    from torch.distributed.fsdp import fully_shard

    mesh = torch.distributed.init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def check_that_all_ranks_hear_of_failures(plan: Any, model: Any) -> None:
    """What goes wrong on the main rank alone ends every rank, also with errors that cannot be sent as they are."""

    def fail() -> None:
        raise ScoringError(UserError("a metric failed", help="mend it"), {}, [])

    with pytest.raises(UserError, match="a metric failed") as failed:
        on_main(fail)
    assert failed.value.help == "mend it"

    (plan.output_dir / "training.json").mkdir(parents=True, exist_ok=True)  # in the way of the file
    with pytest.raises(UserError, match="cannot be written"):
        keep_training(plan, TrainResult(model, (1.0,)))


def main(model_folder: str, folder: str, weights: str) -> None:
    # seven items in batches of two: with two ranks one of them has a batch less
    compare = [{"prompted": {"shots": 2}}, "tuned", {"model": model_folder, "name": "other", **NEAREST}]
    scored = {"metrics": METRICS, "compare": compare, "batch_size": 2, "limit": 7}
    plan = make_eval_plan(Path(folder), Path(model_folder), load_host(), scored, adapter="full")
    start_processes(plan)
    tokenizer = load_tokenizer(plan)
    data = prepare(plan, tokenizer)
    model = plan.adapter.build(plan)
    if weights == "sharded":
        shard(model)
    check_that_all_ranks_hear_of_failures(plan, model)
    columns = evaluate(plan, model, tokenizer, data, ("tuned", "prompted", "model")).columns
    found = {
        name: {
            "texts": [answer.text for answer in column.generations],
            "perplexity": list(column.metrics["perplexity"].scores),
            "timed": column.metrics["latency"].n,
        }
        for name, column in columns.items()
    }
    if is_main():
        print(json.dumps(found), flush=True)
    stop_processes()


if __name__ == "__main__":
    main(*sys.argv[1:])
    leave(0)
