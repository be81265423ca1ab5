"""Check that training prepares for the test: its labels, its forms, its lengths, its empty inputs."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.audit import Watch
from core.audit.watching import Marks, Numbers
from core.types import Options
from plugins.checks.answers import LEAST, Labels, answers_something, parsed, shortened
from plugins.checks.learning import counted, watching

RARE = 3  # training examples below which a label or an empty field is rare
LONGER = 1.25  # times the longest training prompt
SHOWN = 3


@dataclass
class Seen:
    """What one side has, training or test."""

    labels: Labels = field(default_factory=Labels)
    numbers: Numbers = field(default_factory=Numbers)  # of the examples that answer something
    lengths: array[int] = field(default_factory=lambda: array("i"))  # characters of their prompts
    json: int = 0
    empty: dict[str, Marks] = field(default_factory=dict)  # by field, the examples in which it is empty


def edge_cases(facts: DataFacts, options: Options) -> Watch:
    """What the test set has and the training data lack, or have hardly."""
    sides = {"train": Seen(), "test": Seen()}

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        if part not in sides:
            return
        side = sides[part]
        for number, example in enumerate(examples, first):
            for name, value in example.row.items():
                if isinstance(value, str) and not value.strip():
                    side.empty.setdefault(name, Marks()).numbers.append(number)
            if answers_something(example):
                side.numbers.append(number)
                side.labels.add(example.answer)
                side.lengths.append(len(example.prompt))
                side.json += parsed(example.answer) is not None

    def findings(facts: DataFacts) -> list[Finding]:
        train, test = sides["train"], sides["test"]
        if not train.numbers or not test.numbers:
            return []
        found = [*_labels(facts, train, test), *_forms(train, test), *_lengths(facts, train, test)]
        return [*found, *_empty(facts, train, test)]

    return Watch(see, findings)


def _labels(facts: DataFacts, train: Seen, test: Seen) -> Iterator[Finding]:
    known = train.labels.closed()
    if known is None:
        return
    wanted: Counter[str] = Counter()
    for number in test.numbers:
        wanted[facts.example(number).answer.strip()] += 1
        if len(wanted) > 2 * len(known) + RARE:
            return  # free text in the test set
    rare = {label: known[label] for label in wanted if known[label] < RARE}
    if not rare:
        return
    shown = ", ".join(f"{shortened(label)} ({count})" for label, count in list(rare.items())[:SHOWN])
    more = f" and {len(rare) - SHOWN} more" if len(rare) > SHOWN else ""
    places = facts.places([n for n in test.numbers if facts.example(n).answer.strip() in rare])
    message = f"{counted(len(rare), 'answer')} of the test set hardly in the training data (how often): {shown}{more}"
    yield Finding(message, places, help="add training examples with these answers")


def _forms(train: Seen, test: Seen) -> Iterator[Finding]:
    shares = [side.json / len(side.numbers) for side in (train, test)]
    if abs(shares[0] - shares[1]) > 0.5 and min(len(train.numbers), len(test.numbers)) >= LEAST:
        message = f"{shares[0]:.0%} of the training answers are JSON, and {shares[1]:.0%} of the test answers"
        yield Finding(message, help="train on answers of the form that is tested")


def _lengths(facts: DataFacts, train: Seen, test: Seen) -> Iterator[Finding]:
    longest = max(train.lengths)
    longer = [
        (number, length) for number, length in zip(test.numbers, test.lengths, strict=True) if length > LONGER * longest
    ]
    if longer:
        message = (
            f"{len(longer):,} of {counted(len(test.numbers), 'test prompt')} are longer than any training prompt by a "
            f"quarter or more (up to {max(length for _, length in longer):,} characters, against {longest:,})"
        )
        places = facts.places([number for number, _ in longer])
        yield Finding(message, places, help="add long examples to the training data")


def _empty(facts: DataFacts, train: Seen, test: Seen) -> Iterator[Finding]:
    """Fields that are empty in rows of the test set, and nearly never in training."""
    for name, marks in test.empty.items():
        seen = len(train.empty.get(name, Marks()))
        if seen < RARE:
            message = f"{name!r} is empty in {counted(len(marks), 'test row')}, and in {seen} of the training data"
            yield Finding(message, facts.places(marks.numbers), help="add training rows in which it is empty")


@hookimpl
def data_checks() -> list[DataCheck]:
    return [watching("edge_cases", edge_cases, description="What the test set has and the training data lack.")]
