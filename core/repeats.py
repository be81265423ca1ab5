"""The same training with other seeds, so that a figure can say how much it owes to chance."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.kept import TRAINING_FILE, keep_training
from core.results import EvalReport, Repeat
from core.types import Data, Plan

if TYPE_CHECKING:
    from core.types import Tokenizer

TUNED = "tuned"
DEFAULT_SEED = 42


def train_again(plan: Plan, tokenizer: Tokenizer, data: Data, after: EvalReport) -> tuple[Repeat, ...]:
    """Every training of the run, the first one (in `after`) included; nothing where the recipe asks for no repeats.

    Each further one starts from the base with the next seed, on the same data, saves its model into `repeat-2`,
    `repeat-3`, ... of the output folder, and answers the held-out items as the tuned column does. One that is there
    already, because the run is being resumed, is only scored.
    """
    if plan.evaluation.repeats < 2 or TUNED not in after.columns:
        return ()
    found = [Repeat(seed_of(plan), after.columns[TUNED])]
    for number in range(2, plan.evaluation.repeats + 1):
        found.append(_train_once(plan_of_repeat(plan, number), tokenizer, data, number))
    return tuple(found)


def score_again(
    plan: Plan,
    run: Path,
    tokenizer: Tokenizer,
    data: Data,
    after: EvalReport,
    *,
    keep_in: Path | None = None,
    reuse: bool = True,
) -> tuple[Repeat, ...]:
    """The same for a run that is scored without training: those of its repeats that have been trained.

    keep_in: the folder (default: `run`) around those that their answers are kept in, taken over where reuse says so.
    """
    from core.console import say

    if plan.evaluation.repeats < 2 or TUNED not in after.columns:
        return ()
    found = [Repeat(seed_of(plan), after.columns[TUNED])]
    for number in range(2, plan.evaluation.repeats + 1):
        again = plan_of_repeat(replace(plan, output_dir=run), number)
        if (again.output_dir / TRAINING_FILE).is_file():
            folder = (keep_in or run) / again.output_dir.name
            found.append(_scored(again, tokenizer, data, keep_in=folder, reuse=reuse))
        else:
            say(f"warning: repeat {number} of {plan.evaluation.repeats} has not been trained, and is left out")
    return tuple(found) if len(found) > 1 else ()


def seed_of(plan: Plan) -> int:
    """The seed that a training of `plan` starts with."""
    return int(plan.recipe["seed"] if plan.recipe["seed"] is not None else DEFAULT_SEED)


def plan_of_repeat(plan: Plan, number: int) -> Plan:
    """The plan of the training `number` (from 2): the next seed, a folder of its own, the tuned column alone."""
    recipe, folder = plan.recipe, plan.output_dir / f"repeat-{number}"
    columns = tuple(column for column in plan.evaluation.columns if column.name == TUNED)
    resumes = plan.resume_from is not None and any(folder.glob("checkpoint-*"))
    return replace(
        plan,
        recipe=replace(recipe, values={**recipe.values, "seed": seed_of(plan) + number - 1}),
        output_dir=folder,
        evaluation=replace(plan.evaluation, columns=columns, gates=(), forgetting=None, lm_eval=None),
        resume_from=folder if resumes else None,
        overwrite=plan.resume_from is None,
    )


def _train_once(plan: Plan, tokenizer: Tokenizer, data: Data, number: int) -> Repeat:
    from core.console import say
    from core.evaluation import evaluate
    from core.models import save_model
    from core.output import claim_output_dir
    from core.processes import seed_everything

    say(f"repeat {number}: seed {seed_of(plan)}")
    if not plan.overwrite and (plan.output_dir / TRAINING_FILE).is_file():
        return _scored(plan, tokenizer, data)
    _give_memory_back()
    seed_everything(seed_of(plan))
    claim_output_dir(plan)
    model = plan.adapter.build(plan)
    training = plan.trainer.prepare(plan, model, tokenizer, data)
    trained = training.run()
    save_model(plan, trained.model, tokenizer)
    keep_training(plan, trained)
    after = evaluate(plan, trained.model, tokenizer, data, columns=(TUNED,))
    return Repeat(seed_of(plan), after.columns[TUNED])


def _scored(plan: Plan, tokenizer: Tokenizer, data: Data, *, keep_in: Path | None = None, reuse: bool = True) -> Repeat:
    from core.evaluation import evaluate

    after = evaluate(plan, None, tokenizer, data, columns=(TUNED,), reuse=reuse, keep_in=keep_in)
    return Repeat(seed_of(plan), after.columns[TUNED])


def _give_memory_back() -> None:
    """What earlier trainings held is needed by the next one."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
