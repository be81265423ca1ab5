"""Checks of the answers: one form, one spelling, no label that drowns the others."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.audit import Watch
from core.audit.watching import Numbers
from core.types import Options
from plugins.checks.learning import counted, watching

LEAST = 20  # answers from which on a pattern is one
LONGEST_LABEL = 200  # characters
MOST_LABELS = 100
NEARLY_ALL = 0.8
SHOWN = 3


def answers_something(example: CheckedExample) -> bool:
    """Whether the example is used and has an answer."""
    return example.kept and bool(example.answer)


@dataclass
class Labels:
    """How often each answer occurs, as long as they can be taken from a small set, and which one each example has."""

    counts: Counter[str] = field(default_factory=Counter)
    total: int = 0
    codes: array[int] = field(default_factory=lambda: array("B"))
    open: bool = False  # free text

    def add(self, answer: str) -> None:
        """Count one more answer."""
        self.total += 1
        if self.open:
            return
        label = answer.strip()
        self.counts[label] += 1
        if len(self.counts) > MOST_LABELS or len(label) > LONGEST_LABEL:
            self.open = True
            self.counts.clear()
            self.codes = array("B")
            return
        if label not in self._numbers:
            self._numbers[label] = len(self._numbers)
        self.codes.append(self._numbers[label])

    def __post_init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def label(self, index: int) -> str:
        """The label of the answer that was counted as number `index`."""
        return list(self._numbers)[self.codes[index]]

    def having(self, labels: Collection[str]) -> list[int]:
        """Which of the answers, in the order they were counted, are one of `labels`."""
        wanted = {self._numbers[label] for label in labels}
        return [index for index, code in enumerate(self.codes) if code in wanted]

    def closed(self) -> Counter[str] | None:
        """How often each occurs, where they are taken from a small set; None for free text."""
        few = len(self.counts) <= min(MOST_LABELS, max(2, self.total // 5))
        return self.counts if self.total >= LEAST and not self.open and few else None


def parsed(text: str) -> Any:
    """The JSON object or array that `text` is, or None."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None


def shortened(text: str, length: int = 60) -> str:
    """`text` quoted on one line."""
    line = " ".join(text.split())
    return repr(line if len(line) <= length else line[: length - 1] + "…")


def answer_format(facts: DataFacts, options: Options) -> Watch:
    """Answers that leave the form of nearly all others: JSON, its keys, its surrounding space."""
    numbers = Numbers()  # of the examples that answer something
    broken, spaced, keyed = array("q"), array("q"), array("q")
    hashes = array("q")  # of the keys, of each in `keyed`
    labels = Labels()

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        if part != "train":
            return
        for number, example in enumerate(examples, first):
            if not answers_something(example):
                continue
            answer = example.answer
            numbers.append(number)
            labels.add(answer)
            if answer[-1:].isspace():
                spaced.append(number)
            value = parsed(answer)
            if value is None:
                broken.append(number)
            elif isinstance(value, dict):
                keyed.append(number)
                hashes.append(hash(_keys(value)))

    def findings(facts: DataFacts) -> list[Finding]:
        if len(numbers) < LEAST:
            return []
        found = []
        if broken and len(broken) <= (1 - NEARLY_ALL) * len(numbers):
            message = (
                f"{len(broken):,} of {counted(len(numbers), 'answer')} {_is(broken)} no valid JSON, all others are"
            )
            found.append(Finding(message, facts.places(broken), help="correct these answers"))
        if len(keyed) > NEARLY_ALL * len(numbers):
            found += _other_keys(facts, keyed, hashes)
        if spaced and len(spaced) * 2 <= len(numbers):
            message = (
                f"{len(spaced):,} of {counted(len(numbers), 'answer')} end in a space or line break, the others do not"
            )
            found.append(Finding(message, facts.places(spaced), help="strip them, or the model learns both"))
        return [*found, *_spellings(facts, labels, numbers)]

    return Watch(see, findings)


def _keys(value: dict[str, Any]) -> str:
    return ", ".join(sorted(value))


def _other_keys(facts: DataFacts, keyed: array[int], hashes: array[int]) -> list[Finding]:
    (usual, count), *_ = Counter(hashes).most_common(1)
    other = [number for number, keys in zip(keyed, hashes, strict=True) if keys != usual]
    if not other or count <= NEARLY_ALL * len(keyed):
        return []
    example = facts.example(keyed[hashes.index(usual)])
    message = f"{counted(len(other), 'answer')} {'has' if len(other) == 1 else 'have'} other JSON keys than"
    listed = _keys(parsed(example.answer))
    return [Finding(f"{message} the usual {listed}", facts.places(other), help="use the same keys")]


def _spellings(facts: DataFacts, labels: Labels, numbers: Sequence[int]) -> list[Finding]:
    known = labels.closed()
    if known is None:
        return []
    groups: dict[str, list[str]] = {}
    for label, _ in known.most_common():
        groups.setdefault("".join(char for char in label.casefold() if char.isalnum()) or label, []).append(label)
    several = [group for group in groups.values() if len(group) > 1]
    if not several:
        return []
    odd = {label for group in several for label in group[1:]}
    shown = "; ".join(" and ".join(shortened(label, 40) for label in group) for group in several[:SHOWN])
    places = facts.places([numbers[index] for index in labels.having(odd)])
    message = f"{counted(len(several), 'label')} {_is(several)} spelt in more than one way: {shown}"
    return [Finding(message, places, help="spell each label in one way")]


def label_balance(facts: DataFacts, options: Options) -> Watch:
    """Short answers of which one is given most of the time."""
    given = Labels()

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        if part == "train" and not given.open:
            for example in examples:
                if answers_something(example):
                    given.add(example.answer)

    return Watch(see, lambda facts: _balance(given))


def _balance(given: Labels) -> list[Finding]:
    labels = given.closed()
    if labels is None or len(labels) < 2:
        return [] if labels is None else [_single(labels, given.total)]
    (label, count), *others = labels.most_common()
    if count < max(0.5, 1.4 / len(labels)) * given.total:
        return []
    rest = ", ".join(f"{shortened(other, 30)} {number:,}" for other, number in others[:SHOWN])
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    message = (
        f"{count:,} of {counted(given.total, 'answer')} are {shortened(label, 30)} ({rest}{more}): "
        f"saying so every time is right in {count / given.total:.0%}"
    )
    return [Finding(message, count=count, help="add examples of the rarer labels, or judge by more than accuracy")]


def _single(labels: Counter[str], count: int) -> Finding:
    message = f"all {count:,} answers are {shortened(next(iter(labels)))}: there is nothing to tell apart"
    return Finding(message, count=count, help="add examples with other answers")


def _is(listed: Sequence[Any]) -> str:
    return "is" if len(listed) == 1 else "are"


@hookimpl
def data_checks() -> list[DataCheck]:
    return [
        watching("answer_format", answer_format, description="Answers that leave the form of nearly all others."),
        watching("label_balance", label_balance, description="Short answers of which one drowns the others."),
    ]
