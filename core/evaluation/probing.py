"""General abilities of a model: how it answers what has nothing to do with the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core.console import say
from core.evaluation.answerers import Tuned, tuned_model, untouched_base
from core.evaluation.generate import context_length, generate, make_decoding
from core.evaluation.greedy import make_decoder
from core.evaluation.likelihood import IGNORED, measure_rows
from core.probes import Probe
from core.results import ProbeReport
from core.types import ColumnPlan, Plan

if TYPE_CHECKING:
    from core.types import Module, Tokenizer

BASE, TUNED = "base", "tuned"
TEXT, INSTRUCTIONS = "text", "instructions"
LABELS = {TEXT: "perplexity on general text", INSTRUCTIONS: "instructions followed"}


@dataclass(frozen=True)
class _Row:
    input_ids: list[int]
    labels: list[int]


def probe_models(
    plan: Plan, model: Module | None, tokenizer: Tokenizer, columns: Sequence[str], saved: Tuned
) -> dict[str, ProbeReport]:
    """The untouched base and the tuned model, those that are among `columns`, where the recipe asks for it."""
    probes: dict[str, ProbeReport] = {}
    if plan.evaluation.forgetting is None and plan.evaluation.lm_eval is None:
        return probes
    if BASE in columns:
        with untouched_base(plan, model) as (base, _):
            probes[BASE] = probe_model(plan, base, tokenizer)
    if TUNED in columns:
        with tuned_model(plan, ColumnPlan(TUNED), model, saved) as (tuned, _):
            probes[TUNED] = probe_model(plan, tuned, tokenizer)
    for name, report in probes.items():
        asked = ", ".join(f"{LABELS.get(part, part)} ({len(rows)})" for part, rows in report.parts.items())
        say(f"{name}: probed for general abilities: {asked}")
    return probes


def probe_model(plan: Plan, model: Module, tokenizer: Tokenizer) -> ProbeReport:
    """The figures of the recipe's probes on one model; the same on every rank."""
    parts: dict[str, Sequence[Mapping[str, float]]] = {}
    answers: list[Mapping[str, Any]] = []
    model.eval()
    if plan.evaluation.forgetting is not None:
        probe = plan.evaluation.forgetting.probe
        if probe.texts is not None:
            parts[TEXT] = _perplexity(plan, probe.texts(), model, tokenizer)
        if probe.instructions is not None:
            parts[INSTRUCTIONS], answers = _instructions(plan, probe, model, tokenizer)
    if plan.evaluation.lm_eval is not None:
        from core.evaluation.harness import run_tasks

        parts |= run_tasks(plan, model, tokenizer)
    return ProbeReport(parts, answers)


def _perplexity(plan: Plan, texts: Sequence[str], model: Module, tokenizer: Tokenizer) -> list[Mapping[str, float]]:
    from core.data import encode_prompt

    decoder = make_decoder(model)
    limit = context_length(decoder.config)
    ids = [encode_prompt(text, tokenizer)[:limit] for text in texts]
    rows = [_Row(one, [IGNORED, *one[1:]]) for one in ids]
    measured = measure_rows(decoder, rows, make_decoding(plan, model, tokenizer))
    return [measured[index] for index in range(len(rows))]


def _instructions(
    plan: Plan, probe: Probe, model: Module, tokenizer: Tokenizer
) -> tuple[list[Mapping[str, float]], list[Mapping[str, Any]]]:
    from core.data import encode_prompt

    assert probe.instructions is not None
    asked = probe.instructions()
    decoding = replace(make_decoding(plan, model, tokenizer), max_new_tokens=probe.max_new_tokens)
    prompts = [encode_prompt(question(one.prompt, tokenizer), tokenizer) for one in asked]
    generations = generate(make_decoder(model), tokenizer, prompts, decoding)
    followed = [bool(one.followed(answer.text)) for one, answer in zip(asked, generations, strict=True)]
    answers: list[Mapping[str, Any]] = [
        {"name": one.name, "prompt": one.prompt, "answer": answer.text, "followed": right}
        for one, answer, right in zip(asked, generations, followed, strict=True)
    ]
    return [{"followed": float(right)} for right in followed], answers


def question(prompt: str, tokenizer: Tokenizer) -> str:
    """The text that puts an instruction to a model: a turn of its chat template, else a plain form."""
    if getattr(tokenizer, "chat_template", None):
        turns = [{"role": "user", "content": prompt}]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    return f"### Instruction:\n{prompt}\n\n### Response:\n"
