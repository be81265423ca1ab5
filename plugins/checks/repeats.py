"""Checks of rows that say the same, or that answer one prompt in different ways."""

from __future__ import annotations

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.types import Options
from plugins.checks.learning import counted
from plugins.checks.similarity import near_pairs

SIMILARITY = {
    "similarity": {
        "type": "number",
        "minimum": 0.5,
        "maximum": 1,
        "default": 0.9,
        "description": "The share of five-character pieces that two texts must have in common.",
    }
}


def _first_copies(facts: DataFacts) -> tuple[list[CheckedExample], list[CheckedExample]]:
    """The training examples that are kept, parted into first ones and exact copies."""
    first: dict[str, CheckedExample] = {}
    copies = []
    for example in facts.train:
        if example.kept and first.setdefault(example.content, example) is not example:
            copies.append(example)
    return list(first.values()), copies


def duplicates(facts: DataFacts, options: Options) -> list[Finding]:
    """Training examples that are equal to an earlier one."""
    _, copies = _first_copies(facts)
    if not copies:
        return []
    message = f"{len(copies):,} of {counted(len(facts.train))} {'is a copy' if len(copies) == 1 else 'are copies'}"
    return [Finding(f"{message} of an earlier one", [e.place for e in copies], help="take the copies out")]


def near_duplicates(facts: DataFacts, options: Options) -> list[Finding]:
    """Training examples that are nearly equal to an earlier one."""
    first, _ = _first_copies(facts)
    texts = [f"{example.prompt} {example.answer}" if example.answer else example.text for example in first]
    pairs = near_pairs(texts, float(options["similarity"]))
    if not pairs:
        return []
    message = f"{len(pairs):,} of {counted(len(first))} {'is' if len(pairs) == 1 else 'are'} nearly equal"
    details = [f"{first[index].place} is nearly {first[other].place}" for index, other in pairs]
    help = "keep one of each, so that they do not count more than others"
    return [Finding(f"{message} to an earlier one", [first[i].place for i, _ in pairs], help=help, details=details)]


def conflicting_answers(facts: DataFacts, options: Options) -> list[Finding]:
    """Prompts that stand in the training data with more than one answer."""
    answers: dict[str, dict[str, CheckedExample]] = {}
    for example in facts.train:
        if example.kept and example.answer:
            spoken = " ".join(example.answer.split()).casefold()
            answers.setdefault(example.prompt, {}).setdefault(spoken, example)
    found = [list(given.values()) for given in answers.values() if len(given) > 1]
    if not found:
        return []
    message = f"{counted(len(found), 'prompt')} of {len(answers):,} {'has' if len(found) == 1 else 'have'}"
    details = [f"{', '.join(e.place for e in given[:4])} answer one prompt differently" for given in found]
    places = [example.place for given in found for example in given]
    help = "keep the better answer; nothing can be learnt from a contradiction"
    return [Finding(f"{message} different answers", places, count=len(found), help=help, details=details)]


@hookimpl
def data_checks() -> list[DataCheck]:
    return [
        DataCheck("duplicates", duplicates, description="Training examples that occur more than once."),
        DataCheck(
            "near_duplicates",
            near_duplicates,
            options_schema=SIMILARITY,
            description="Training examples that are nearly equal.",
        ),
        DataCheck("conflicting_answers", conflicting_answers, description="Prompts with more than one answer."),
    ]
