"""The columns of the comparison, one model after another: prompts, answers, measured facts, metrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.console import say
from core.errors import UserError
from core.evaluation.answerers import Tuned, other_model, tuned_model, untouched_base
from core.evaluation.answers import FOLDER, KeptAnswers, open_answers
from core.evaluation.asking import answers_are_read, ask, from_disk
from core.evaluation.cost import cost_facts
from core.evaluation.facts import choices_of, save_scores
from core.evaluation.greedy import innermost
from core.evaluation.metrics import ScoringError, ready_metrics, score_column
from core.evaluation.probing import probe_models
from core.evaluation.questions import Questions, key_of_answers, make_ready
from core.evaluation.slices import slice_items
from core.processes import gather_objects, is_main, on_main
from core.results import ColumnReport, EvalReport, Generation, MetricResult
from core.types import Data, Item, Plan

if TYPE_CHECKING:
    from core.types import Module, Tokenizer

# the kinds of column that can be scored before training, and those that need the tuned model
BEFORE = ("base", "prompted", "model")
AFTER = ("tuned", "merged")


@dataclass(frozen=True)
class _Group:
    """Columns that one model answers. enter: a context manager that gives it, with how it was come by."""

    columns: Sequence[Questions]
    enter: Callable[[], AbstractContextManager[tuple[Module, str]]]


def evaluate(
    plan: Plan,
    model: Module | None,
    tokenizer: Tokenizer,
    data: Data,
    columns: Sequence[str],
    *,
    saved: Tuned | None = None,
    reuse: bool = False,
    keep_in: Path | None = None,
) -> EvalReport:
    """Score the columns that the recipe compares and whose kind is among `columns`; the same report on every rank.

    model: the one in training, or None where nothing is trained and every model is loaded for its columns. The columns
    `base` and `prompted` are the untouched base: `model` with its adapter switched off where that is exact, else a load
    of its own. Training is not disturbed: module modes and random states are put back. saved: the tuned model on disk
    (default: in the output folder). reuse: take over the answers that an earlier attempt left in `answers/` of that
    folder, or of `keep_in`.
    Raises `DataError` for prompts that do not fit the context, before anything is generated, and `UserError` for a
    metric that fails; the answers are on disk by then.
    """
    items = data.test[: plan.evaluation.limit]
    if not items:
        return EvalReport()
    slice_items(items, plan.evaluation.slice_by)  # a field that is not there is told before anything is asked
    metrics = ready_metrics(plan.evaluation.metrics, items)
    plan = replace(plan, evaluation=replace(plan.evaluation, metrics=metrics))
    saved = saved or Tuned("run", str(plan.output_dir))
    # the tuned column's prompts are looked at before training too: hours later is too late to call them too long
    wanted = [column for column in plan.evaluation.columns if column.kind in (*columns, "tuned")]
    config = _config(plan, model)
    ready = [make_ready(plan, column, data, items, tokenizer, config, saved) for column in wanted]
    ready = [questions for questions in ready if questions.column.kind in columns]
    reports: dict[str, ColumnReport] = {}
    with undisturbed(model):
        for group in _groups(plan, ready, model, saved):
            reports |= _answered(plan, group, items, saved, keep_in or plan.output_dir, reuse=reuse)
        probes = probe_models(plan, model, tokenizer, columns, saved)
    return EvalReport({questions.column.name: reports[questions.column.name] for questions in ready}, probes)


def refuse_unscorable(plan: Plan, data: Data) -> None:
    """Raise `UserError` for held-out items that a metric could not score, or that lack a field of `slice_by`; asked
    before any weights are read."""
    items = data.test[: plan.evaluation.limit]
    if items:
        slice_items(items, plan.evaluation.slice_by)
        ready_metrics(plan.evaluation.metrics, items)


def _config(plan: Plan, model: Module | None) -> Any:
    from core.models.config import load_config

    return innermost(model).config if model is not None else load_config(plan)


def _groups(plan: Plan, ready: Sequence[Questions], model: Module | None, saved: Tuned) -> Iterator[_Group]:
    """The columns by the model that answers them, the untouched base first."""
    of_base = [questions for questions in ready if questions.column.kind in ("base", "prompted")]
    if of_base:
        yield _Group(of_base, lambda: untouched_base(plan, model))
    for questions in ready:
        column, own = questions.column, questions.plan
        if column.kind == "model":
            yield _Group([questions], lambda column=column, own=own: other_model(own, column, model))  # type: ignore[misc]
        elif column.kind in AFTER:
            yield _Group([questions], lambda column=column: tuned_model(plan, column, model, saved))  # type: ignore[misc]


def _answered(
    plan: Plan, group: _Group, items: Sequence[Item], saved: Tuned, keep_in: Path, *, reuse: bool
) -> dict[str, ColumnReport]:
    """The reports of a group's columns; its model is loaded only if there is something left to ask it."""
    needs = sorted({need for metric in plan.evaluation.metrics for need in metric.evaluator.needs})
    choices = choices_of(plan.evaluation.metrics, items)
    needs = [*(need for need in needs if need in ("latency", "likelihood")), *choices]
    kept = {questions.column.name: _kept(questions, saved, keep_in, reuse=reuse) for questions in group.columns}
    asked = len(items) if answers_are_read(plan) else 0
    open_ones = [one for one in group.columns if not kept[one.column.name].complete(asked, needs)]
    generations: dict[str, list[Generation]] = {}
    if open_ones:
        with group.enter() as (model, how):
            model.eval()
            generations = ask(plan, open_ones, items, model, how, kept, needs, choices, saved)
    reports = {}
    for questions in group.columns:
        name = questions.column.name
        if name not in generations:
            generations[name] = from_disk(questions, kept[name], choices)
            say(f"{name}: {len(items)} answers taken from {keep_in / FOLDER}")
        reports[name] = _scored(plan, questions, generations[name], items, kept[name])
    return reports


def _kept(questions: Questions, saved: Tuned, keep_in: Path, *, reuse: bool) -> KeptAnswers:
    (key,) = gather_objects([key_of_answers(questions, saved)] if is_main() else [])
    return open_answers(keep_in, questions.column.name, key, reuse=reuse)


def _scored(
    plan: Plan, questions: Questions, generations: Sequence[Generation], items: Sequence[Item], kept: KeptAnswers
) -> ColumnReport:
    started, prompts = time.perf_counter(), questions.prompts
    metrics = on_main(lambda: _score_or_say_where(plan, generations, items, kept))
    if prompts.count < prompts.wanted:
        say(f"warning: {kept.column}: {prompts.wanted} examples asked for, only {prompts.count} training rows to show")
    if prompts.shortened:
        say(f"{kept.column}: {prompts.shortened} prompts show fewer than {prompts.count} examples, to fit the context")
    facts = {key: value for key, value in kept.facts.items() if key != "stop_ids"}
    return ColumnReport(
        name=questions.column.name,
        generations=generations,
        metrics=metrics,
        facts={
            "kind": questions.column.kind,
            "label": questions.label,
            **facts,
            **cost_facts(
                plan.evaluation.price,
                questions.column.name,
                tokens_in=sum(map(len, questions.ids)),
                tokens_out=sum(generation.tokens for generation in generations),
                items=len(items),
                seconds=facts["generation_seconds"],
            ),
            "items": len(items),
            "seconds": round(facts["generation_seconds"] + time.perf_counter() - started, 3),
            "tokens_per_prompt": sum(map(len, questions.ids)) / len(questions.ids),
            "prompt_form": prompts.form,
            "prompt_sample": prompts.texts[0],
            "shots": list(prompts.shots),
            "shown": prompts.count,
            "wanted": prompts.wanted,
            "shortened": prompts.shortened,
        },
    )


def _score_or_say_where(
    plan: Plan, generations: Sequence[Generation], items: Sequence[Item], kept: KeptAnswers
) -> dict[str, MetricResult]:
    seed, slices = plan.recipe["seed"] or 0, slice_items(items, plan.evaluation.slice_by)
    facts = {kind.rpartition("@")[0] or kind: values for kind, values in kept.measured.items()}
    try:
        return score_column(plan.evaluation.metrics, generations, items, facts, seed=seed, slices=slices)
    except ScoringError as error:
        folder, name = kept.path.parent, f"{kept.path.name.partition('.')[0]}.scores.json"
        try:
            scores = f"the scores so far in {save_scores(folder / name, error, items).name}"
        except OSError as full:
            scores = f"the scores so far cannot be written ({full.strerror or full})"
        where = f"the answers of the column {kept.column!r} are in {folder}, {scores}"
        raise UserError(error.message, help=f"{error.help}; {where}") from error


@contextlib.contextmanager
def undisturbed(model: Module | None) -> Iterator[None]:
    """Put back what evaluation moves: the mode of every module and the states of all random generators."""
    import random

    import numpy
    import torch

    modes = {module: module.training for module in model.modules()} if model is not None else {}
    python, arrays = random.getstate(), numpy.random.get_state()
    devices = list(range(torch.cuda.device_count()))  # none without CUDA
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        random.setstate(python)
        numpy.random.set_state(arrays)
