"""Answers of another engine than core's own, asked with the same token ids and ended by the same tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.check.columns import PACKINGS
from core.errors import UserError
from core.evaluation.answerers import Tuned
from core.evaluation.answers import KeptAnswers
from core.evaluation.generate import Decoding, to_generation
from core.evaluation.questions import Questions
from core.processes import is_main, on_main
from core.results import Generation
from core.types import GenerationRequest, Generator


def generate_elsewhere(
    generator: Generator,
    questions: Questions,
    decoding: Decoding,
    saved: Tuned,
    kept: KeptAnswers,
    facts: Mapping[str, Any],
) -> list[Generation]:
    """One answer per prompt by `generator`, which runs on the main process; the same on every rank.

    facts: how the model computes (`dtype`, `quantisation`). Raises `UserError` for a model whose weights are nowhere on
    disk as they are asked, and for an engine that answers another number of prompts than it was asked.
    """
    open_ones = [position for position in range(len(questions.ids)) if position not in kept.tokens]
    new = on_main(lambda: _asked(generator, questions, decoding, saved, facts, open_ones))
    if is_main():
        kept.add(open_ones, new, [to_generation(ids, questions.tokenizer, decoding).text for ids in new])
    by_position = {**kept.tokens, **dict(zip(open_ones, new, strict=True))}
    return [
        to_generation(by_position[position], questions.tokenizer, decoding) for position in range(len(questions.ids))
    ]


def _asked(
    generator: Generator,
    questions: Questions,
    decoding: Decoding,
    saved: Tuned,
    facts: Mapping[str, Any],
    positions: Sequence[int],
) -> list[list[int]]:
    if not positions:
        return []
    folder, adapter = weights_of(questions, saved, facts)
    plan = questions.plan
    answers = generator.generate(
        GenerationRequest(
            prompts=[questions.ids[position] for position in positions],
            stop_ids=decoding.stop_ids,
            max_new_tokens=decoding.max_new_tokens,
            tokenizer=questions.tokenizer,
            folder=folder,
            adapter=adapter,
            dtype=str(facts["dtype"]),
            seed=plan.recipe["seed"] or 0,
            revision=plan.recipe["revision_of_model"] if folder == plan.base_model else None,
            trust_remote_code=plan.trust_remote_code,
        )
    )
    if len(answers) != len(positions):
        raise UserError(
            f"the generator {generator.name!r} gave {len(answers)} answers to {len(positions)} prompts",
            help="this is a fault of the plugin that brings it; leave evaluation.generator out",
        )
    return [list(map(int, ids)) for ids in answers]


def weights_of(questions: Questions, saved: Tuned, facts: Mapping[str, Any]) -> tuple[str, str | None]:
    """Where the weights of a column are: a folder or hub id, and the folder of an adapter on them or None.

    Raises `UserError` for a column whose weights are nowhere on disk as they are asked.
    """
    column = questions.column
    if column.kind == "merged" or facts["quantisation"] in PACKINGS.values():
        raise UserError(
            f"the column {column.name!r} can only be answered by the generator 'transformers'",
            help="leave evaluation.generator out, or the column",
        )
    if column.kind != "tuned":
        return questions.plan.base_model, None
    if (Path(saved.address) / "adapter_config.json").is_file():
        return questions.plan.base_model, saved.address
    return saved.address, None
