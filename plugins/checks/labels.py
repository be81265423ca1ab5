"""A check of labels: an answer that is none of the few that all others are taken from."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.audit import Watch
from core.types import Options
from plugins.checks.answers import MOST_LABELS, answers_something, shortened
from plugins.checks.learning import counted, watching

LEAST = 50  # answers from which on a set is one
ESTABLISHED = 3  # times that a label has to occur
OFTEN = 5  # times that labels occur on average
MOST_OUTSIDE = 0.05  # of the answers
SLACK = 1_000  # distinct answers that may be seen before free text is taken for what it is
SHOWN = 3


def label_outliers(facts: DataFacts, options: Options) -> Watch:
    """Answers outside the small set that nearly all are taken from."""
    # of each answer, in one spelling; eight bytes each, and nothing more once it is free text
    hashes, numbers = array("q"), array("q")
    distinct: set[int] = set()
    open_set = False

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        nonlocal open_set
        if part != "train" or open_set:
            return
        for number, example in enumerate(examples, first):
            if answers_something(example):
                hashes.append(hash(_spelling(example.answer)))
                numbers.append(number)
        distinct.update(hashes[-len(examples) :])
        if len(distinct) > MOST_LABELS + max(SLACK, MOST_OUTSIDE * len(hashes)):
            open_set = True
            del hashes[:], numbers[:]
            distinct.clear()

    def findings(facts: DataFacts) -> list[Finding]:
        if len(hashes) < LEAST:
            return []
        counts = Counter(hashes)
        labels = {label for label, count in counts.items() if count >= ESTABLISHED}
        outside = [number for number, label in zip(numbers, hashes, strict=True) if label not in labels]
        few = 2 <= len(labels) <= MOST_LABELS and len(hashes) >= OFTEN * len(labels)
        if not few or not outside or len(outside) > MOST_OUTSIDE * len(hashes):
            return []
        usual = [facts.example(numbers[hashes.index(label)]).answer for label, _ in counts.most_common(SHOWN)]
        named = ", ".join(shortened(label.strip(), 30) for label in usual) + (", ..." if len(labels) > SHOWN else "")
        are = "is" if len(outside) == 1 else "are"
        message = (
            f"{len(outside):,} of {counted(len(hashes), 'answer')} {are} none of the {len(labels)} labels of the "
            f"others ({named})"
        )
        help = "correct them, or add more examples of these labels"
        return [Finding(message, facts.places(outside), help=help)]

    return Watch(see, findings)


def _spelling(answer: str) -> str:
    """The answer in one spelling: how a label is written is what `answer_format` looks at."""
    return "".join(char for char in answer.casefold() if char.isalnum()) or answer.strip()


@hookimpl
def data_checks() -> list[DataCheck]:
    description = "Answers that are none of the few labels of all others."
    return [watching("label_outliers", label_outliers, description=description)]
