"""The story of a run. Everything that varies between runs is in the plan; everything else is called from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.claim import held_output_dir, refuse_live_run
from core.data import prepare
from core.data.stream import with_streamed
from core.evaluation import AFTER, BEFORE, evaluate, refuse_unscorable
from core.hub import publish, refuse_upload
from core.kept import keep_training, scored_later
from core.lock import take_lock, write_lock
from core.models import load_tokenizer, save_model
from core.output import claim_output_dir, refuse_existing_run
from core.planner import process_bytes, refuse_impossible, with_expectation
from core.processes import start_processes
from core.repeats import train_again
from core.report import write_report
from core.results import EvalReport, RunReport, TrainResult
from core.types import Data, Plan

if TYPE_CHECKING:
    from core.types import Tokenizer


def run(plan: Plan) -> RunReport:
    """One fine-tuning run, start to finish; on every rank alike.

    Raises `UserError` for what the user can put right; whatever was trained by then is already saved.
    """
    refuse_live_run(plan.output_dir)
    refuse_existing_run(plan)
    refuse_upload(plan)
    start_processes(plan)
    with held_output_dir(plan):
        tokenizer = load_tokenizer(plan)
        used = take_lock(plan, tokenizer)
        data = prepare(plan, tokenizer)
        refuse_unscorable(plan, data)
        before, trained, after = _train_and_score(plan, tokenizer, data, used)
        with scored_later(plan):
            repeats = train_again(plan, tokenizer, data, after)
            report = write_report(plan, data, before, trained, after, repeats=repeats)
        publish(plan)
        return report


def _train_and_score(
    plan: Plan, tokenizer: Tokenizer, data: Data, used: Mapping[str, Any]
) -> tuple[EvalReport, TrainResult, EvalReport]:
    """The columns that need no training, the training, and the columns of what it made; no model outlives it."""
    bytes_without_model = process_bytes()
    refuse_impossible(plan)
    model = plan.adapter.build(plan)
    claim_output_dir(plan)
    training = plan.trainer.prepare(plan, model, tokenizer, data)
    before = evaluate(plan, training.model, tokenizer, data, columns=BEFORE, reuse=plan.resume_from is not None)
    write_lock(plan, used)
    trained = with_expectation(plan, data, bytes_without_model, with_streamed(data, training.run()))
    save_model(plan, trained.model, tokenizer)
    kept = keep_training(plan, trained)
    with scored_later(plan):
        after = evaluate(plan, trained.model, tokenizer, data, columns=AFTER)
    return before, kept, after
