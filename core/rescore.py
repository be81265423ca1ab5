"""Scoring what was trained earlier: a run, an adapter or a whole model, with a recipe's held-out data and metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.errors import UserError
from core.types import Data, DatasetPlan, Plan

if TYPE_CHECKING:
    from core.lock import Lock
    from core.results import RunReport, TrainResult
    from core.types import Tokenizer

Kind = Literal["run", "adapter", "model"]
EVALUATIONS = "evaluations"
# what belongs to training and has no meaning when a run is scored
CHECKPOINT_KEYS = (
    *("metric_for_best_model", "load_best_model_at_end", "early_stopping_patience"),
    *("generation_evals_per_epoch", "generation_eval_items"),
)
TRAINING_KEYS = ("resume_from_checkpoint", "auto_resume_from_checkpoints", "hub_model_id")


@dataclass(frozen=True)
class Target:
    """What is to be scored. kind: `run` (an output_dir, with its lock), `adapter` (a folder of one) or `model`.

    lock: the lock file that holds the recipe it was trained with, or None. folder: where the files are, None for the
    hub.
    """

    kind: Kind
    address: str
    folder: Path | None = None
    lock: Path | None = None

    @property
    def unfinished(self) -> bool:
        """Whether it is a run that was trained and whose scoring broke off."""
        from core.kept import TRAINING_FILE

        folder = self.folder
        return folder is not None and (folder / TRAINING_FILE).is_file() and not (folder / "run.json").is_file()


def find_target(text: str) -> Target:
    """What `text` names: an output_dir, a checkpoint, an adapter folder, a model folder, a .gguf file, or a hub id.

    Raises `UserError` for what holds no model.
    """
    from core.lock import LOCK_FILE
    from core.models.source import resolve_base_model

    folder = Path(text).expanduser().absolute()
    if not folder.is_dir():
        return Target("model", resolve_base_model(text, Path.cwd(), what="target"))
    adapter, whole = (folder / "adapter_config.json").is_file(), (folder / "config.json").is_file()
    lock = folder / LOCK_FILE
    if lock.is_file() and ((folder / "training.json").is_file() or (folder / "run.json").is_file() or adapter or whole):
        return Target("run", str(folder), folder, lock)
    if folder.name.startswith("checkpoint-") and (folder.parent / LOCK_FILE).is_file() and (adapter or whole):
        return Target("run", str(folder), folder, folder.parent / LOCK_FILE)
    if adapter:
        return Target("adapter", str(folder), folder)
    if whole:
        return Target("model", str(folder), folder)
    if lock.is_file():
        help = "go on with it: tunesmith run RECIPE --resume"
        raise UserError(f"the run in {text!r} has not finished training: it holds no model", help=help)
    raise UserError(
        f"{text!r} holds no model",
        help="name the output_dir of a run, the folder of an adapter or of a model, a .gguf file, or a hub id",
    )


def output_for(target: Target, asked: Path | None) -> Path:
    """Where the results go: `asked`; the run's own folder where its scoring broke off; else a new numbered folder in
    `evaluations/` of the target (of the working folder for the hub), or the last one if that was left unfinished.

    Raises `UserError` where `asked` holds results already: none are overwritten.
    """
    if asked is not None:
        if (asked / "run.json").exists():
            help = "name another folder with --output"
            raise UserError(f"{str(asked)!r} holds results already, which are never overwritten", help=help)
        return asked.absolute()
    if target.unfinished and target.folder is not None:
        return target.folder
    around = target.folder or Path.cwd() / EVALUATIONS / target.address.replace("/", "--")
    root = around / EVALUATIONS if target.folder else around
    numbers = [int(entry.name) for entry in root.iterdir() if entry.name.isdigit()] if root.is_dir() else []
    last = max(numbers, default=0)
    unfinished = last > 0 and not (root / str(last) / "run.json").exists()
    return root / str(last if unfinished else last + 1)


def rescore(plan: Plan, target: Target, lock: Lock | None, *, fresh: bool = False) -> RunReport:
    """Score `target` as the plan's columns say, without training anything; on every rank alike.

    fresh: ask every question anew; otherwise the answers that an earlier scoring of the same weights with the same
    prompts left are taken over.
    Raises `UserError` where another process writes into the same folder, as `run` does.
    """
    from core.claim import held_output_dir
    from core.data.chat_templates import adopt_chat_template
    from core.evaluation import AFTER, BEFORE, evaluate, refuse_unscorable
    from core.evaluation.answerers import Tuned
    from core.models import load_tokenizer
    from core.output import claim_output_dir
    from core.processes import start_processes
    from core.repeats import score_again
    from core.report import write_report
    from core.results import EvalReport

    start_processes(plan)
    with held_output_dir(plan, look_again=refuse_results):
        tokenizer = load_tokenizer(plan)
        adopt_chat_template(plan, tokenizer)
        _tell_drift(plan, lock, tokenizer)
        data = _data(plan, tokenizer, target, lock)
        refuse_unscorable(plan, data)
        claim_output_dir(plan)
        kinds = (*BEFORE, *AFTER)
        saved = Tuned(target.kind, target.address)
        with _answers_folder(plan, target) as at:
            report = evaluate(plan, None, tokenizer, data, kinds, saved=saved, reuse=not fresh, keep_in=at)
            run = target.folder
            repeats = score_again(plan, run, tokenizer, data, report, keep_in=at, reuse=not fresh) if run else ()
        trained, known = _training(target)
        scored = {"target": target.address, "kind": target.kind, "trained_here": known}
        return write_report(plan, data, EvalReport(), trained, report, scored=scored, repeats=repeats)


def refuse_results(plan: Plan) -> None:
    """Raise `UserError` where the output folder holds results: none are overwritten."""
    if (plan.output_dir / "run.json").exists():
        raise UserError(
            f"{str(plan.output_dir)!r} holds results already, which are never overwritten",
            help="name another folder with --output",
        )


def needs_training_rows(plan_columns: Sequence[Any], default_shots: int = 5) -> bool:
    """Whether a column shows training rows as worked examples."""
    return any(
        column.options.get("shots", default_shots if column.kind == "prompted" else 0) > 0
        for column in plan_columns
        if column.kind in ("prompted", "model")
    )


def _data(plan: Plan, tokenizer: Tokenizer, target: Target, lock: Lock | None) -> Data:
    """The held-out items; with the training rows only where examples are drawn from them or a run is being finished."""
    from core.data import prepare
    from core.data.held_out import prepare_items, refuse_trained_on

    if needs_training_rows(plan.evaluation.columns) or target.unfinished:
        return prepare(plan, tokenizer)
    before = _run_json(target)
    data = prepare_items(plan, tokenizer, before.get("data") or {})
    # what the run itself was scored on was looked at before it trained
    if any(_is_new(dataset, lock) for dataset in plan.evaluation.datasets):
        refuse_trained_on(plan, data.test, tokenizer)
    return data


def _is_new(dataset: DatasetPlan, lock: Lock | None) -> bool:
    """Whether held-out data is not what the run used."""
    from core.check.wording import dotted
    from core.lock.inputs import data_content

    before = lock.values["data"].get(dotted(dataset.key)) if lock is not None else None
    return before is None or data_content(dataset) != before


def _training(target: Target) -> tuple[TrainResult, bool]:
    """How the target was trained, and whether that is known; empty where it is not."""
    from core.kept import training_of
    from core.results import TrainResult

    nothing: Any = None
    found = training_of(target.folder, nothing) if target.folder is not None else None
    if found is not None:
        return found, True
    values = _run_json(target)
    if not values:
        return TrainResult(nothing, ()), False
    own = {field.name for field in fields(TrainResult)}
    train = {name: value for name, value in values["train"].items() if name in own}
    return (
        TrainResult(
            nothing,
            **train,
            parameters_trained=values["parameters"]["trained"],
            parameters_total=values["parameters"]["total"],
            peak_bytes=values["memory"]["peak_bytes"],
        ),
        True,
    )


def _run_json(target: Target) -> Mapping[str, Any]:
    path = target.folder / "run.json" if target.folder is not None else None
    if target.kind != "run" or path is None or not path.is_file():
        return {}
    try:
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error}", help="get an intact copy of the run") from error
    return values


@contextmanager
def _answers_folder(plan: Plan, target: Target) -> Iterator[Path]:
    """Where answers are kept: with the run, so that every scoring of it shares them, if that can be written and no
    other scoring (or the run itself) is writing there meanwhile."""
    from core.claim import shared_folder
    from core.console import say

    folder = target.folder
    # the claim on the output folder is held already
    if target.kind != "run" or folder is None or folder == plan.output_dir or not os.access(folder, os.W_OK):
        yield plan.output_dir
        return
    with shared_folder(folder) as held:
        if not held:
            say(f"another process is writing into {folder}: its answers are left alone, and these kept by themselves")
        yield folder if held else plan.output_dir


def _tell_drift(plan: Plan, lock: Lock | None, tokenizer: Tokenizer) -> None:
    """Say where held-out data, base model or tokenizer are no longer what the run used."""
    from core.console import say
    from core.lock.hashes import tokenizer_hash
    from core.lock.inputs import base_model
    from core.processes import is_main

    if lock is None or not is_main():
        return
    changed = []
    if base_model(plan) != lock.values["base_model"]:
        changed.append("the base model")
    if tokenizer_hash(tokenizer) != lock.values["tokenizer"].get("sha256"):
        changed.append("the tokenizer")
    new = [dataset for dataset in plan.evaluation.datasets if _is_new(dataset, lock)]
    changed += [f"the held-out data {dataset.path!r}" for dataset in new]
    for what in changed:
        say(f"warning: {what} is not what the run used, so its figures and these are not of the same thing")


def without_training_keys(plan: Plan, output: Path) -> Plan:
    """The plan for scoring: into `output`, and without what only training reads."""
    recipe = plan.recipe
    values = {key: value for key, value in recipe.values.items() if key not in TRAINING_KEYS}
    return replace(plan, recipe=replace(recipe, values=values), output_dir=output, resume_from=None, overwrite=False)
