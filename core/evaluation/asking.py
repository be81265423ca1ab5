"""What a model is asked for its columns: answers, seconds, likelihoods; all of it kept on disk as it comes in."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core.console import say
from core.evaluation.answerers import Tuned, model_facts
from core.evaluation.answers import KeptAnswers
from core.evaluation.engines import generate_elsewhere
from core.evaluation.facts import settled_by
from core.evaluation.generate import Decoding, generate, make_decoding, to_generation
from core.evaluation.greedy import Decoder, make_decoder
from core.evaluation.latency import latency_sample, measure_latency
from core.evaluation.likelihood import measure_choices, measure_likelihood
from core.evaluation.questions import Questions
from core.results import Generation
from core.types import Item, Plan

if TYPE_CHECKING:
    from core.types import Module

LIKELIHOOD = ("likelihood", "choices")


def answers_are_read(plan: Plan) -> bool:
    """Whether anything of the recipe looks at generated answers: a metric that needs no likelihood, or prices."""
    metrics, by_likelihood = plan.evaluation.metrics, set(LIKELIHOOD)
    only_likelihood = bool(metrics) and all(
        metric.evaluator.needs and by_likelihood.issuperset(metric.evaluator.needs) for metric in metrics
    )
    return plan.evaluation.price is not None or not only_likelihood


def chosen_answers(items: int, kept: KeptAnswers, choices: Mapping[str, Sequence[Sequence[str]]]) -> list[Generation]:
    """What stands for the answers where none are generated: the most likely choice of each item, or nothing."""
    texts = [""] * items
    for kind, listed in list(choices.items())[:1]:
        for position, texts_of_item in enumerate(listed):
            nll = kept.measured[kind][position]
            texts[position] = min(enumerate(texts_of_item), key=lambda one: nll[f"nll:{one[0]}"])[1].strip()
    return [Generation(text=text, tokens=0, stopped=True) for text in texts]


def ask(
    plan: Plan,
    columns: Sequence[Questions],
    items: Sequence[Item],
    model: Module,
    how: str,
    kept: dict[str, KeptAnswers],
    needs: Sequence[str],
    choices: Mapping[str, Sequence[Sequence[str]]],
    saved: Tuned,
) -> dict[str, list[Generation]]:
    """Answers and measured facts of the columns of one model, all added to what is kept."""
    decoder = make_decoder(model)
    decodings = {one.column.name: make_decoding(one.plan, model, one.tokenizer) for one in columns}
    settled = settled_by(plan, items)
    read, computing = answers_are_read(plan), model_facts(model)
    found = {
        one.column.name: _generated(one, decoder, decodings[one.column.name], kept, settled, saved, computing)
        if read
        else ([], 0.0)
        for one in columns
    }
    first = decodings[columns[0].column.name]
    measured_at = None
    if "latency" in needs:
        sample = latency_sample(len(items), plan.evaluation.latency_sample, plan.recipe["seed"] or 0)
        measured_at = datetime.now(UTC).isoformat(timespec="seconds")
        timed = measure_latency(decoder, {one.column.name: one.ids for one in columns}, sample, first)
        for name, values in timed.items():
            kept[name].add_measured("latency", values)
    for one in columns:
        if "likelihood" in needs:
            references = [item.references[0] for item in items]
            decoding = decodings[one.column.name]
            nll = measure_likelihood(decoder, one.tokenizer, one.prompts.texts, references, decoding)
            kept[one.column.name].add_measured("likelihood", nll)
        for kind, listed in choices.items():
            decoding = decodings[one.column.name]
            chosen = measure_choices(decoder, one.tokenizer, one.prompts.texts, listed, decoding)
            kept[one.column.name].add_measured(kind, chosen)
        generations, seconds = found[one.column.name]
        if not read:
            generations = chosen_answers(len(items), kept[one.column.name], choices)
            found[one.column.name] = generations, seconds
            say(f"{one.column.name}: {len(items)} items measured, none generated: every metric goes by likelihood")
        facts = {"model": how, **computing, **_counts(generations, seconds, decodings[one.column.name], read)}
        if measured_at is not None:
            turns = [other.column.name for other in columns]
            facts |= {"latency_measured": measured_at, "latency_in_turn": turns if len(turns) > 1 else []}
        kept[one.column.name].add_facts(facts)
    return {name: generations for name, (generations, _) in found.items()}


def _generated(
    questions: Questions,
    decoder: Decoder,
    decoding: Decoding,
    kept: dict[str, KeptAnswers],
    settled: Callable[[int, str], bool] | None,
    saved: Tuned,
    facts: Mapping[str, Any],
) -> tuple[list[Generation], float]:
    name, started = questions.column.name, time.perf_counter()
    before = len(kept[name].tokens)
    engine = questions.plan.evaluation.generator
    if engine is not None:
        generations = generate_elsewhere(engine, questions, decoding, saved, kept[name], facts)
    else:
        generations = generate(decoder, questions.tokenizer, questions.ids, decoding, kept[name], settled)
    seconds = time.perf_counter() - started
    capped = _capped(generations)
    say(
        f"{name}: {len(generations)} answers in {seconds:.1f} s"
        + (f", {before} of them from an earlier attempt" if before else "")
        + (f", {capped} cut off at {decoding.max_new_tokens} tokens" if capped else "")
    )
    return generations, seconds


def _capped(generations: Sequence[Generation]) -> int:
    return sum(not (generation.stopped or generation.settled) for generation in generations)


def _counts(generations: Sequence[Generation], seconds: float, decoding: Decoding, read: bool) -> dict[str, Any]:
    return {
        "generation_seconds": round(seconds, 3),
        "tokens_per_answer": sum(generation.tokens for generation in generations) / len(generations),
        "capped": _capped(generations),
        "settled": sum(generation.settled for generation in generations),
        "max_new_tokens": decoding.max_new_tokens,
        "decoding": "greedy" if read else "none, by likelihood",
        "batch_size": decoding.batching.used,
        "stop_ids": sorted(decoding.stop_ids),
    }


def from_disk(
    questions: Questions, kept: KeptAnswers, choices: Mapping[str, Sequence[Sequence[str]]]
) -> list[Generation]:
    """The answers as they were generated, or chosen where none had to be."""
    if len(kept.tokens) < len(questions.ids):
        return chosen_answers(len(questions.ids), kept, choices)
    facts = kept.facts
    decoding = Decoding(frozenset(facts["stop_ids"]), 0, facts["max_new_tokens"], facts["batch_size"])
    ids = [kept.tokens[position] for position in range(len(questions.ids))]
    return [to_generation(new, questions.tokenizer, decoding) for new in ids]
