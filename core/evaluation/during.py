"""Scoring by generation while a model trains: a fixed sample of the validation data, asked again and again."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import RowError, UserError
from core.evaluation.facts import choices_of
from core.evaluation.generate import context_length, generate, make_decoding
from core.evaluation.greedy import innermost, make_decoder
from core.evaluation.likelihood import measure_choices, measure_likelihood
from core.evaluation.metrics import Facts, ready_metrics, score_column
from core.evaluation.shots import rows_at
from core.results import Generation
from core.types import Data, Item, MetricPlan, Plan

if TYPE_CHECKING:
    from core.types import Module, Tokenizer

SOURCE = "the validation data"


@dataclass(frozen=True)
class SampleScorer:
    """What a trainer calls now and then. score(model) -> the figure of each metric on the sample, the same on every
    rank; call it on all of them. metrics: their names, each with whether more is better.

    A metric that fails is left out with a word, for training is worth more than a curve; one that chooses the model
    (`metric_for_best_model`) raises `UserError`."""

    score: Callable[[Module], dict[str, float]]
    metrics: Mapping[str, bool]
    items: int

    def facts(self) -> dict[str, Any]:
        """What is stated about the sample in run.json."""
        return {"items": self.items, "source": SOURCE, "metrics": list(self.metrics)}


def sample_metrics(metrics: Sequence[MetricPlan]) -> tuple[MetricPlan, ...]:
    """Those that can be scored during training: all but timings, which training itself would disturb."""
    return tuple(metric for metric in metrics if "latency" not in metric.evaluator.needs)


def make_sample_scorer(plan: Plan, model: Module, tokenizer: Tokenizer, data: Data) -> SampleScorer | None:
    """The scorer that `generation_evals_per_epoch` asks for, or None where it does not.

    The sample is drawn by the seed from the rows that the validation loss is computed on, never from the held-out items
    that the columns are scored on: what chooses a checkpoint must not judge it. Raises `UserError` where no validation
    row has an answer.
    """
    if not plan.recipe["generation_evals_per_epoch"]:
        return None
    items = _sample(plan, tokenizer, data, int(plan.recipe["generation_eval_items"] or 50))
    items = _fitting(items, tokenizer, context_length(innermost(model).config), plan)
    metrics = ready_metrics(sample_metrics(plan.evaluation.metrics), items)

    def score(trained: Module) -> dict[str, float]:
        return _score(plan, metrics, trained, tokenizer, items)

    return SampleScorer(score, {metric.name: metric.evaluator.higher_is_better for metric in metrics}, len(items))


def _sample(plan: Plan, tokenizer: Tokenizer, data: Data, wanted: int) -> list[Item]:
    from core.data import item_of

    places = list(dict.fromkeys(data.val["place"])) if data.val is not None else []
    random.Random(plan.recipe["seed"] or 0).shuffle(places)
    # some rows may have no answer to compare with
    pool = {place: rank for rank, place in enumerate(places[: 2 * wanted])}
    found: dict[int, Item] = {}
    for dataset, row, place in rows_at(plan.validation or plan.datasets, pool):
        try:
            examples = dataset.format.render(row, dataset.options, tokenizer)
            found[pool[place]] = item_of(examples[0], row, place, 0, tokenizer)
        except (RowError, KeyError, IndexError):
            continue  # counted and reported when the data were prepared
    items = [found[rank] for rank in sorted(found)][:wanted]
    if not items:
        raise UserError(
            "generation_evals_per_epoch: no validation row has an answer to compare with",
            help="set val_set_size or test_datasets, or remove generation_evals_per_epoch",
        )
    return items


def _fitting(items: Sequence[Item], tokenizer: Tokenizer, context: int | None, plan: Plan) -> list[Item]:
    """The items whose prompt leaves room for an answer; those left out are told."""
    from core.console import say
    from core.data import encode_prompt

    if context is None:
        return list(items)
    room = context - plan.evaluation.max_new_tokens
    fitting = [item for item in items if len(encode_prompt(item.prompt, tokenizer)) <= room]
    if len(fitting) < len(items):
        say(f"warning: {len(items) - len(fitting)} of {len(items)} validation items are too long to be scored")
    if not fitting:
        raise UserError(
            f"generation_evals_per_epoch: no validation prompt leaves room for {plan.evaluation.max_new_tokens} tokens",
            help="lower evaluation.max_new_tokens",
        )
    return fitting


def _score(
    plan: Plan, metrics: Sequence[MetricPlan], model: Module, tokenizer: Tokenizer, items: Sequence[Item]
) -> dict[str, float]:
    from core.data import encode_prompt
    from core.evaluation.evaluate import undisturbed
    from core.processes import on_main

    needs = {need for metric in metrics for need in metric.evaluator.needs}
    measured: dict[str, Mapping[int, Mapping[str, float]]] = {}
    with undisturbed(model):
        model.eval()
        decoder, decoding = make_decoder(model), make_decoding(plan, model, tokenizer)
        prompts = [item.prompt for item in items]
        ids = [encode_prompt(prompt, tokenizer) for prompt in prompts]
        answers = generate(decoder, tokenizer, ids, decoding)
        if "likelihood" in needs:
            references = [item.references[0] for item in items]
            measured["likelihood"] = measure_likelihood(decoder, tokenizer, prompts, references, decoding)
        for kind, listed in choices_of(metrics, items).items():
            name = kind.rpartition("@")[0]
            measured[name] = measure_choices(decoder, tokenizer, prompts, listed, decoding)
    return on_main(lambda: _figures(plan, metrics, answers, items, measured))


def _figures(
    plan: Plan, metrics: Sequence[MetricPlan], answers: Sequence[Generation], items: Sequence[Item], measured: Facts
) -> dict[str, float]:
    from core.console import say

    found = {}
    choosing = str(plan.recipe["metric_for_best_model"] or "").removeprefix("eval_")
    for metric in metrics:
        try:
            (result,) = score_column([metric], answers, items, measured, seed=plan.recipe["seed"] or 0).values()
        except UserError as error:
            if metric.name == choosing:
                raise
            say(f"warning: {error.message}; training goes on without this figure ({error.help})")
            continue
        if result.value is not None:
            found[metric.name] = result.value
    return found
