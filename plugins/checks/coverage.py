"""Check that training prepares for the test: its labels, its forms, its lengths, its empty inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.types import Options
from plugins.checks.answers import LEAST, answered, closed_set, parsed, shortened
from plugins.checks.learning import counted

RARE = 3  # training examples below which a label or an empty field is rare
LONGER = 1.25  # times the longest training prompt
SHOWN = 3


def edge_cases(facts: DataFacts, options: Options) -> list[Finding]:
    """What the test set has and the training data lack, or have hardly."""
    train, test = answered(facts.train), answered(facts.test)
    if not train or not test:
        return []
    return [*_labels(train, test), *_forms(train, test), *_lengths(train, test), *_empty(facts.train, facts.test)]


def _labels(train: Sequence[CheckedExample], test: Sequence[CheckedExample]) -> Iterator[Finding]:
    known = closed_set([example.answer for example in train])
    if known is None:
        return
    wanted = Counter(example.answer.strip() for example in test)
    if len(wanted) > 2 * len(known) + RARE:
        return  # free text in the test set
    rare = {label: known[label] for label in wanted if known[label] < RARE}
    if not rare:
        return
    shown = ", ".join(f"{shortened(label)} ({count})" for label, count in list(rare.items())[:SHOWN])
    more = f" and {len(rare) - SHOWN} more" if len(rare) > SHOWN else ""
    places = [example.place for example in test if example.answer.strip() in rare]
    message = f"{counted(len(rare), 'answer')} of the test set hardly in the training data (how often): {shown}{more}"
    yield Finding(message, places, help="add training examples with these answers")


def _forms(train: Sequence[CheckedExample], test: Sequence[CheckedExample]) -> Iterator[Finding]:
    shares = [sum(parsed(e.answer) is not None for e in rows) / len(rows) for rows in (train, test)]
    if abs(shares[0] - shares[1]) > 0.5 and min(len(train), len(test)) >= LEAST:
        message = f"{shares[0]:.0%} of the training answers are JSON, and {shares[1]:.0%} of the test answers"
        yield Finding(message, help="train on answers of the form that is tested")


def _lengths(train: Sequence[CheckedExample], test: Sequence[CheckedExample]) -> Iterator[Finding]:
    longest = max(len(example.prompt) for example in train)
    longer = [example for example in test if len(example.prompt) > LONGER * longest]
    if longer:
        message = (
            f"{len(longer):,} of {counted(len(test), 'test prompt')} are longer than any training prompt by a quarter "
            f"or more (up to {max(len(e.prompt) for e in longer):,} characters, against {longest:,})"
        )
        yield Finding(message, [e.place for e in longer], help="add long examples to the training data")


def _empty(train: Sequence[CheckedExample], test: Sequence[CheckedExample]) -> Iterator[Finding]:
    """Fields that are empty in rows of the test set, and nearly never in training."""
    seen = Counter(field for example in train for field in _empty_fields(example))
    for field, count in Counter(field for example in test for field in _empty_fields(example)).items():
        if seen[field] < RARE:
            places = [example.place for example in test if field in _empty_fields(example)]
            message = f"{field!r} is empty in {counted(count, 'test row')}, and in {seen[field]} of the training data"
            yield Finding(message, places, help="add training rows in which it is empty")


def _empty_fields(example: CheckedExample) -> list[str]:
    return [name for name, value in example.row.items() if isinstance(value, str) and not value.strip()]


@hookimpl
def data_checks() -> list[DataCheck]:
    return [DataCheck("edge_cases", edge_cases, description="What the test set has and the training data lack.")]
