"""Scores the tiny model on as many processes as the launcher starts; the main one prints the answers as JSON.

Arguments: the model's folder, a work folder, `whole` or `sharded` (weights spread over the ranks).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from core.data import prepare
from core.evaluation import evaluate
from core.host import load_host
from core.launched import leave
from core.models import load_tokenizer
from core.processes import is_main, start_processes, stop_processes
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
