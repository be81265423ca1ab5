"""Conformance checks that load, train and save a small model: adapters, trainers, loggers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.host import Host
from core.results import TrainResult
from core.testing.failure import require
from core.types import Logger, Plan

if TYPE_CHECKING:
    import torch

    from core.types import Tokenizer

PROBE = "Is 2 even? Answer yes or no. yes"
STEP_SIZE = 0.5


def check_adapter(plan: Plan) -> None:
    """Something is trained, one step moves only that, the base view is the base, and saving loses nothing.

    plan: a plan on a small model whose `adapter` is the one to check; its output folder is written.
    """
    import torch

    from core.models import load_tokenizer, load_untouched_base, save_model
    from core.processes import start_processes

    name = plan.adapter.name
    start_processes(plan)
    tokenizer = load_tokenizer(plan)
    model = plan.adapter.build(plan)
    trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
    require(bool(trained), f"adapter {name}: no parameter requires a gradient")

    view = plan.adapter.base_view(plan, model.eval()) if plan.adapter.base_view else None
    if view is not None:
        with view:
            seen = _logits(model, tokenizer)
        base = _logits(load_untouched_base(plan), tokenizer)
        furthest = (seen - base).abs().max().item()
        require(torch.equal(seen, base), f"adapter {name}: base_view is not the base, logits are off by {furthest}")

    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    _step(model, tokenizer, list(trained.values()))
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    stray = sorted(moved - set(trained))
    require(not stray, f"adapter {name}: a step moved {stray[:3]}, which require no gradient")
    require(bool(moved), f"adapter {name}: a step moved none of the {len(trained)} parameters to train")

    tuned = _logits(model.eval(), tokenizer)
    save_model(plan, model, tokenizer)
    furthest = (_logits(_loaded(plan).eval(), tokenizer) - tuned).abs().max().item()
    require(furthest < 1e-4, f"adapter {name}: after saving and loading, logits are off by {furthest}")


def check_trainer(plan: Plan) -> None:
    """Training runs, its losses are finite, and the same seed gives the same losses.

    plan: a plan of a few steps on a small model whose `trainer` is the one to check; its output folder is written.
    """
    name = plan.trainer.name
    first, second = _train(plan), _train(plan)
    require(isinstance(first, TrainResult), f"trainer {name}: run() returned {first!r}, not a TrainResult")
    require(len(first.losses) > 0, f"trainer {name}: no losses were reported")
    require(all(map(math.isfinite, first.losses)), f"trainer {name}: losses are not all finite: {list(first.losses)}")
    require(
        list(first.losses) == list(second.losses),
        f"trainer {name}: the same seed gave {list(first.losses)}, then {list(second.losses)}",
    )


def check_logger(logger: Logger, plan: Plan, host: Host) -> None:
    """Its keys are recipe keys, and it gives a callback, or says as a `UserError` which package it misses."""
    from transformers import TrainerCallback

    unknown = [key for key in logger.keys if key not in host.recipe_keys]
    require(not unknown, f"logger {logger.name}: {unknown} are no recipe keys; offer them with recipe_keys()")
    try:
        callback = logger.callback(plan)
    except UserError:
        return
    require(isinstance(callback, TrainerCallback), f"logger {logger.name}: {callback!r} is not a TrainerCallback")


def _train(plan: Plan) -> TrainResult:
    from core.data import prepare
    from core.models import load_tokenizer
    from core.output import claim_output_dir
    from core.processes import start_processes

    start_processes(plan)
    claim_output_dir(plan)
    tokenizer = load_tokenizer(plan)
    data = prepare(plan, tokenizer)
    model = plan.adapter.build(plan)
    return plan.trainer.prepare(plan, model, tokenizer, data).run()


def _ids(model: Any, tokenizer: Tokenizer) -> torch.Tensor:
    import torch

    device = next(model.parameters()).device
    return torch.tensor([tokenizer.encode(PROBE, add_special_tokens=False)], device=device)


def _logits(model: Any, tokenizer: Tokenizer) -> torch.Tensor:
    import torch

    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=_ids(model, tokenizer)).logits.float().cpu()
    return logits


def _step(model: Any, tokenizer: Tokenizer, parameters: list[torch.nn.Parameter]) -> None:
    """One step of plain descent on `parameters`, large enough to be seen in every dtype."""
    import torch

    ids = _ids(model, tokenizer)
    model.train()
    model(input_ids=ids, labels=ids).loss.backward()
    torch.optim.SGD(parameters, lr=STEP_SIZE).step()
    model.zero_grad()


def _loaded(plan: Plan) -> Any:
    """The saved model: through the adapter, else as anyone would who has only transformers and peft."""
    from transformers import AutoModelForCausalLM

    if plan.adapter.load:
        return plan.adapter.load(plan, plan.output_dir)
    return AutoModelForCausalLM.from_pretrained(plan.output_dir)
