"""Tasks of lm-evaluation-harness on a model that is already in memory (extra `lm-eval`)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.evaluation.greedy import is_sharded
from core.processes import gather_objects, is_main
from core.types import Plan

if TYPE_CHECKING:
    from core.types import Module, Tokenizer

# the figures of a task that are compared, best first; a task's first own figure where it has none of these
PREFERRED = ("acc_norm", "acc", "exact_match", "f1", "mcc", "rouge1", "bleu")


def run_tasks(plan: Plan, model: Module, tokenizer: Tokenizer) -> dict[str, list[dict[str, float]]]:
    """Per task of `evaluation.lm_eval` one figure for each of its items, the same on every rank.

    Raises `UserError` for a task that is not known, or whose data cannot be read, and where the weights are spread over
    the processes, which the harness cannot follow.
    """
    settings: Mapping[str, Any] = plan.evaluation.lm_eval or {}
    if is_sharded(model):
        raise UserError(
            "the tasks of evaluation.lm_eval cannot be run while the weights are spread over the processes",
            help="leave lm_eval out, and run it afterwards: tunesmith eval OUTPUT_DIR --recipe RECIPE in one process",
        )
    outcome: list[tuple[Any, str | None]] = []
    if is_main():
        try:
            outcome = [(_samples(settings, model, tokenizer, plan.recipe["seed"] or 0), None)]
        except Exception as error:  # the harness raises errors of many kinds, mostly from a task's own file or data
            outcome = [(None, f"{type(error).__name__}: {error}")]
    ((found, failure),) = gather_objects(outcome)
    if failure is not None:
        raise UserError(
            f"evaluation.lm_eval cannot run {', '.join(settings['tasks'])}: {failure}",
            help="see that each task is known (`lm-eval ls tasks`) and its data is on this machine",
        )
    return {task: _figures(task, samples) for task, samples in found.items()}


def _samples(settings: Mapping[str, Any], model: Module, tokenizer: Tokenizer, seed: int) -> dict[str, Any]:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    # reading the thousands of tasks it knows takes seconds: only where one of them is meant
    own = settings.get("include_path")
    manager = TaskManager(include_path=own, include_defaults=not own)
    if own and _unknown(manager, settings):
        manager = TaskManager(include_path=own)
    if unknown := _unknown(manager, settings):
        raise LookupError(f"there is no task {', '.join(map(repr, unknown))}")
    # it announces every step on its own
    with contextlib.redirect_stdout(io.StringIO()):
        results = lm_eval.simple_evaluate(
            model=HFLM(pretrained=_plain(model), tokenizer=tokenizer, batch_size=8),
            tasks=list(settings["tasks"]),
            task_manager=manager,
            num_fewshot=settings.get("num_fewshot"),
            limit=settings.get("limit"),
            log_samples=True,
            bootstrap_iters=0,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    return {task: list(samples) for task, samples in results["samples"].items()}


def _unknown(manager: Any, settings: Mapping[str, Any]) -> list[str]:
    return [task for task in settings["tasks"] if not manager.match_tasks([task])]


def _plain(model: Module) -> Any:
    """What the harness can hold: the model as it is wrapped by peft, out of the wrapper for several processes."""
    from torch.nn.parallel import DistributedDataParallel

    return model.module if isinstance(model, DistributedDataParallel) else model


def _figures(task: str, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """The compared figure of each item, in the order of the task's documents."""
    ordered = sorted(samples, key=lambda sample: int(sample["doc_id"]))
    names = [name for name in PREFERRED if ordered and isinstance(ordered[0].get(name), (int, float))]
    if not names:
        told = [name for sample in ordered[:1] for name in sample.get("metrics", ())]
        names = [name for name in told if isinstance(ordered[0].get(name), (int, float))]
    if not names:
        raise UserError(
            f"the task {task!r} gives no figure per item, so base and tuned cannot be compared on the same items",
            help="leave the task out, or choose one that scores items one by one (acc, exact_match)",
        )
    return [{names[0]: float(sample[names[0]])} for sample in ordered]
