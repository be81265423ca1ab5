"""The columns of the comparison, one after another: prompts, answers, measured facts, metrics."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from core.console import say
from core.errors import UserError
from core.evaluation.generate import (
    Decoding,
    context_length,
    generate,
    make_decoding,
    refuse_long_prompts,
)
from core.evaluation.greedy import Decoder, innermost, make_decoder
from core.evaluation.latency import latency_sample, measure_latency
from core.evaluation.likelihood import measure_likelihood
from core.evaluation.metrics import score_column
from core.evaluation.partial import save_partial
from core.evaluation.prompts import Prompts, few_shot, zero_shot
from core.processes import gather_objects, is_main
from core.results import ColumnReport, EvalReport, Generation, MetricResult
from core.types import ColumnPlan, Data, Item, Plan

if TYPE_CHECKING:
    from core.types import Module, Tokenizer

UNTUNED = ("base", "prompted")
Result = TypeVar("Result")
Measured = dict[str, dict[int, dict[str, float]]]


@dataclass(frozen=True)
class _Column:
    """A column made ready: its prompts as text and as token ids, both in item order."""

    plan: ColumnPlan
    prompts: Prompts
    ids: list[list[int]]


def evaluate(plan: Plan, model: Module, tokenizer: Tokenizer, data: Data, columns: Sequence[str]) -> EvalReport:
    """Score those of `columns` that the recipe compares, on `data.test`; the same report on every rank.

    The columns `base` and `prompted` are the untouched base: `model` with its adapter switched off where that is
    exact, else a load of its own. Training is not disturbed: module modes and random states are put back.
    Raises `DataError` for prompts that do not fit the context, before anything is generated, and `UserError` for a
    metric that fails, after saving the answers.
    """
    items = data.test[: plan.evaluation.limit]
    if not items:
        return EvalReport()
    context = context_length(innermost(model).config)
    # the tuned column's prompts are looked at before training too: hours later is too late to call them too long
    checked = [
        _make_ready(plan, column, data, items, tokenizer, context)
        for column in plan.evaluation.columns
        if column.name in (*columns, "tuned")
    ]
    ready = [column for column in checked if column.plan.name in columns]
    if not ready:
        return EvalReport()
    untuned = [column for column in ready if column.plan.name in UNTUNED]
    tuned = [column for column in ready if column.plan.name not in UNTUNED]
    reports: dict[str, ColumnReport] = {}
    with _undisturbed(model):
        if untuned:
            with _untouched_base(plan, model) as (base, how):
                reports |= _score_all(plan, untuned, items, base, tokenizer, {"model": how})
        if tuned:
            reports |= _score_all(plan, tuned, items, model, tokenizer, {"model": "as trained, adapter not merged"})
    return EvalReport({column.plan.name: reports[column.plan.name] for column in ready})


def _make_ready(
    plan: Plan, column: ColumnPlan, data: Data, items: Sequence[Item], tokenizer: Tokenizer, context: int | None
) -> _Column:
    from core.data import encode_prompt

    prompts = few_shot(plan, column.options, data, items, tokenizer) if column.name == "prompted" else zero_shot(items)
    ids = [encode_prompt(text, tokenizer) for text in prompts.texts]
    refuse_long_prompts(column.name, items, ids, context, plan.evaluation.max_new_tokens)
    return _Column(column, prompts, ids)


def _score_all(
    plan: Plan,
    columns: Sequence[_Column],
    items: Sequence[Item],
    model: Module,
    tokenizer: Tokenizer,
    facts: dict[str, Any],
) -> dict[str, ColumnReport]:
    model.eval()
    decoder, decoding = make_decoder(model), make_decoding(plan, model, tokenizer)
    facts = {**facts, **_model_facts(model)}
    return {
        column.plan.name: _score_one(plan, column, items, decoder, decoding, tokenizer, facts) for column in columns
    }


def _score_one(
    plan: Plan,
    column: _Column,
    items: Sequence[Item],
    decoder: Decoder,
    decoding: Decoding,
    tokenizer: Tokenizer,
    facts: dict[str, Any],
) -> ColumnReport:
    name, seed, started = column.plan.name, plan.recipe["seed"] or 0, time.perf_counter()
    needs = {need for metric in plan.evaluation.metrics for need in metric.evaluator.needs}
    generations = generate(decoder, tokenizer, column.ids, decoding)
    generation_seconds = time.perf_counter() - started
    measured: Measured = {}
    if "latency" in needs:
        sample = latency_sample(len(items), plan.evaluation.latency_sample, seed)
        measured["latency"] = measure_latency(decoder, column.ids, sample, decoding)
    if "likelihood" in needs:
        references = [item.references[0] for item in items]
        measured["likelihood"] = measure_likelihood(decoder, tokenizer, column.prompts.texts, references, decoding)
    metrics = _on_main(lambda: _score_or_save(plan, name, generations, items, measured, seed))
    seconds = time.perf_counter() - started
    capped = sum(not generation.stopped for generation in generations)
    say(
        f"{name}: {len(items)} answers in {generation_seconds:.1f} s"
        + (f", {capped} cut off at {decoding.max_new_tokens} tokens" if capped else "")
    )
    return ColumnReport(
        name=name,
        generations=generations,
        metrics=metrics,
        facts={
            **facts,
            "items": len(items),
            "seconds": round(seconds, 3),
            "generation_seconds": round(generation_seconds, 3),
            "tokens_per_answer": sum(generation.tokens for generation in generations) / len(generations),
            "tokens_per_prompt": sum(map(len, column.ids)) / len(column.ids),
            "capped": capped,
            "max_new_tokens": decoding.max_new_tokens,
            "decoding": "greedy",
            "batch_size": decoding.batch_size,
            "prompt_form": column.prompts.form,
            "prompt_sample": column.prompts.texts[0],
            "shots": list(column.prompts.shots),
        },
    )


def _score_or_save(
    plan: Plan,
    name: str,
    generations: Sequence[Generation],
    items: Sequence[Item],
    measured: Measured,
    seed: int,
) -> dict[str, MetricResult]:
    try:
        return score_column(plan.evaluation.metrics, generations, items, measured, seed=seed)
    except UserError as error:
        path = save_partial(plan.output_dir, name, generations, items)
        raise UserError(
            error.message, help=f"{error.help}; the answers of the column {name!r} are in {path}"
        ) from error


def _on_main(work: Callable[[], Result]) -> Result:
    """What `work` gives on the main process, on every rank; a user's error is raised on every rank alike."""
    outcome: list[tuple[Any, UserError | None]] = []
    if is_main():
        try:
            outcome = [(work(), None)]
        except UserError as error:
            outcome = [(None, error)]
    ((result, failure),) = gather_objects(outcome)
    if failure is not None:
        raise failure
    return result  # type: ignore[no-any-return]


def _model_facts(model: Module) -> dict[str, Any]:
    """Precision and quantisation, to be stated beside the figures."""
    inner = innermost(model)
    quantisation: Any = getattr(inner.config, "quantization_config", None)
    values = quantisation.to_dict() if hasattr(quantisation, "to_dict") else dict(quantisation or {})
    bits = "4bit" if values.get("load_in_4bit") else "8bit" if values.get("load_in_8bit") else None
    method = str(getattr(values.get("quant_method"), "value", values.get("quant_method") or "")) or None
    return {"dtype": str(inner.dtype).removeprefix("torch."), "quantisation": bits or method}


@contextlib.contextmanager
def _untouched_base(plan: Plan, model: Module) -> Iterator[tuple[Module, str]]:
    """The untouched base, and how it was come by: `model` itself where its adapter can be switched off exactly."""
    view = plan.adapter.base_view(plan, model) if plan.adapter.base_view else None
    if view is not None:
        with view:
            yield model, "the training model before training, adapter switched off"
        return
    import torch

    from core.models import load_untouched_base

    base = load_untouched_base(plan)
    device = next(model.parameters()).device
    if next(base.parameters()).device != device:
        base = base.to(device)
    try:
        yield base, "the base, loaded apart"
    finally:
        del base
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextlib.contextmanager
def _undisturbed(model: Module) -> Iterator[None]:
    """Put back what evaluation moves: the mode of every module and the states of all random generators."""
    import random

    import numpy
    import torch

    modes = {module: module.training for module in model.modules()}
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
