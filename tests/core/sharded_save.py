"""One rank of a run with sharded weights (FSDP2): builds, shards and saves. Started twice by test_models_save.py."""

from __future__ import annotations

import sys
from pathlib import Path

from core.launched import leave


def main(adapter: str, model_folder: str, folder: str) -> None:
    import torch
    from accelerate import PartialState
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from core.models import load_tokenizer, save_model
    from tests.core.model_plans import make_model_plan

    state = PartialState(cpu=True)
    plan = make_model_plan(Path(folder), model_folder, adapter=adapter)
    torch.manual_seed(0)
    model = plan.adapter.build(plan)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        logits = model.eval()(torch.arange(5, 25).view(1, -1)).logits
    fully_shard(model, mesh=init_device_mesh("cpu", (state.num_processes,)))
    save_model(plan, model, load_tokenizer(plan))
    if state.is_main_process:
        torch.save(logits, Path(folder) / "logits.pt")
    state.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
    leave(0)
