"""Checks of rows that say the same, or that answer one prompt in different ways."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.audit import Watch
from core.audit.contents import contents_of, repeated
from core.audit.looked import looked_up
from core.audit.watching import Numbers
from core.types import Options
from plugins.checks.learning import counted, watching
from plugins.checks.similarity import Texts, similar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

SIMILARITY = {
    "similarity": {
        "type": "number",
        "minimum": 0.5,
        "maximum": 1,
        "default": 0.9,
        "description": "The share of five-character pieces that two texts must have in common.",
    }
}


def duplicates(facts: DataFacts, options: Options) -> Watch:
    """Training examples that are equal to an earlier one."""

    def findings(facts: DataFacts) -> list[Finding]:
        contents = contents_of(facts)
        copies = [contents.numbers[index] for index in contents.copies().tolist()]
        if not copies:
            return []
        message = f"{len(copies):,} of {counted(len(facts.train))} {'is a copy' if len(copies) == 1 else 'are copies'}"
        return [Finding(f"{message} of an earlier one", facts.places(copies), help="take the copies out")]

    return Watch(lambda part, first, examples: None, findings)


def near_duplicates(facts: DataFacts, options: Options) -> Watch:
    """Training examples that are nearly equal to an earlier one."""
    texts = Texts()

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        if part == "train":
            for example in examples:
                if example.kept:
                    parts = (example.prompt, example.thinking, example.answer) if example.answer else (example.text,)
                    texts.add(" ".join(filter(None, parts)))

    def findings(facts: DataFacts) -> list[Finding]:
        contents = contents_of(facts)
        numbers, firsts = contents.numbers, contents.firsts()
        pairs = similar(texts, float(options["similarity"]), chosen=firsts)
        if not pairs:
            return []
        message = f"{len(pairs):,} of {counted(len(firsts))} {'is' if len(pairs) == 1 else 'are'} nearly equal"
        details = looked_up(
            pairs, lambda pair: f"{facts.place(numbers[pair[0]])} is nearly {facts.place(numbers[pair[1]])}"
        )
        help = "keep one of each, so that they do not count more than others"
        places = facts.places([numbers[index] for index, _ in pairs])
        return [Finding(f"{message} to an earlier one", places, help=help, details=details)]

    return Watch(see, findings)


def conflicting_answers(facts: DataFacts, options: Options) -> Watch:
    """Prompts that stand in the training data with more than one answer."""
    numbers, prompts, answers = Numbers(), array("q"), array("q")

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        if part != "train":
            return
        for number, example in enumerate(examples, first):
            if example.kept and example.answer:
                numbers.append(number)
                prompts.append(hash(example.prompt))
                answers.append(hash(" ".join(example.answer.split()).casefold()))

    def findings(facts: DataFacts) -> list[Finding]:
        found, asked = _conflicts(numbers, prompts, answers)
        if not found:
            return []
        message = f"{counted(len(found), 'prompt')} of {asked:,} {'has' if len(found) == 1 else 'have'}"
        details = looked_up(found, lambda given: f"{', '.join(facts.places(given[:4]))} answer one prompt differently")
        places = facts.places([number for given in found for number in given])
        help = "keep the better answer; nothing can be learnt from a contradiction"
        return [Finding(f"{message} different answers", places, count=len(found), help=help, details=details)]

    return Watch(see, findings)


def _conflicts(numbers: Sequence[int], prompts: array[int], answers: array[int]) -> tuple[list[list[int]], int]:
    """(for each prompt with several answers, the first example of each answer), and how many prompts there are."""
    import numpy as np

    if not numbers:
        return [], 0
    asked, given = (np.frombuffer(column, dtype=np.int64) for column in (prompts, answers))
    # most prompts stand there once: only the others are looked at any further
    several_times = repeated(asked)
    once = len(asked) - len(several_times)
    if not len(several_times):
        return [], once
    asked, given = asked[several_times], given[several_times]
    distinct, first_of, prompt_of = np.unique(asked, return_index=True, return_inverse=True)
    # the first example of every prompt and answer
    pairs = np.unique(np.stack([first_of[prompt_of.reshape(-1)], given]), axis=1, return_index=True)[1]
    pairs.sort()
    owners = first_of[prompt_of.reshape(-1)][pairs]
    several = np.flatnonzero(np.bincount(owners, minlength=1) > 1)
    chosen = np.isin(owners, several)
    groups: dict[int, list[int]] = {}
    for owner, index in zip(owners[chosen].tolist(), pairs[chosen].tolist(), strict=True):
        groups.setdefault(owner, []).append(numbers[int(several_times[index])])
    return [groups[owner] for owner in sorted(groups)], once + len(distinct)


@hookimpl
def data_checks() -> list[DataCheck]:
    return [
        watching("duplicates", duplicates, description="Training examples that occur more than once."),
        watching(
            "near_duplicates",
            near_duplicates,
            options_schema=SIMILARITY,
            description="Training examples that are nearly equal.",
        ),
        watching("conflicting_answers", conflicting_answers, description="Prompts with more than one answer."),
    ]
