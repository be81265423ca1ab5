"""Checks of the answers: one form, one spelling, no label that drowns the others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.types import Options
from plugins.checks.learning import counted

LEAST = 20  # answers from which on a pattern is one
LONGEST_LABEL = 200  # characters
MOST_LABELS = 100
NEARLY_ALL = 0.8
SHOWN = 3


def answered(examples: Sequence[CheckedExample]) -> list[CheckedExample]:
    """The examples that are used and have an answer."""
    return [example for example in examples if example.kept and example.answer]


def closed_set(answers: Sequence[str]) -> Counter[str] | None:
    """How often each answer occurs, where the answers are taken from a small set; None for free text."""
    if len(answers) < LEAST:
        return None
    counts = Counter(answer.strip() for answer in answers)
    few = len(counts) <= min(MOST_LABELS, max(2, len(answers) // 5))
    return counts if few and all(len(label) <= LONGEST_LABEL for label in counts) else None


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


def answer_format(facts: DataFacts, options: Options) -> list[Finding]:
    """Answers that leave the form of nearly all others: JSON, its keys, its surrounding space."""
    rows = answered(facts.train)
    if len(rows) < LEAST:
        return []
    return [*_json(rows), *_space(rows), *_spellings(rows)]


def _json(rows: Sequence[CheckedExample]) -> list[Finding]:
    values = [(example, parsed(example.answer)) for example in rows]
    broken = [example for example, value in values if value is None]
    findings = []
    if broken and len(broken) <= (1 - NEARLY_ALL) * len(rows):
        message = f"{len(broken):,} of {counted(len(rows), 'answer')} {_is(broken)} no valid JSON, all others are"
        findings.append(Finding(message, [e.place for e in broken], help="correct these answers"))
    keyed = [(example, ", ".join(sorted(value))) for example, value in values if isinstance(value, dict)]
    if len(keyed) > NEARLY_ALL * len(rows):
        (usual, count), *_ = Counter(keys for _, keys in keyed).most_common(1)
        other = [example for example, keys in keyed if keys != usual]
        if other and count > NEARLY_ALL * len(keyed):
            message = f"{counted(len(other), 'answer')} {'has' if len(other) == 1 else 'have'} other JSON keys than"
            findings.append(Finding(f"{message} the usual {usual}", [e.place for e in other], help="use the same keys"))
    return findings


def _space(rows: Sequence[CheckedExample]) -> list[Finding]:
    spaced = [example for example in rows if example.answer != example.answer.rstrip()]
    if not spaced or len(spaced) * 2 > len(rows):
        return []
    message = f"{len(spaced):,} of {counted(len(rows), 'answer')} end in a space or line break, the others do not"
    return [Finding(message, [e.place for e in spaced], help="strip them, or the model learns both")]


def _spellings(rows: Sequence[CheckedExample]) -> list[Finding]:
    labels = closed_set([example.answer for example in rows])
    if labels is None:
        return []
    groups: dict[str, list[str]] = {}
    for label, _ in labels.most_common():
        groups.setdefault("".join(char for char in label.casefold() if char.isalnum()) or label, []).append(label)
    several = [group for group in groups.values() if len(group) > 1]
    if not several:
        return []
    odd = {label for group in several for label in group[1:]}
    shown = "; ".join(" and ".join(shortened(label, 40) for label in group) for group in several[:SHOWN])
    places = [example.place for example in rows if example.answer.strip() in odd]
    message = f"{counted(len(several), 'label')} {_is(several)} spelt in more than one way: {shown}"
    return [Finding(message, places, help="spell each label in one way")]


def label_balance(facts: DataFacts, options: Options) -> list[Finding]:
    """Short answers of which one is given most of the time."""
    rows = answered(facts.train)
    labels = closed_set([example.answer for example in rows])
    if labels is None or len(labels) < 2:
        return [] if labels is None else [_single(labels, len(rows))]
    (label, count), *others = labels.most_common()
    if count < max(0.5, 1.4 / len(labels)) * len(rows):
        return []
    rest = ", ".join(f"{shortened(other, 30)} {number:,}" for other, number in others[:SHOWN])
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    message = (
        f"{count:,} of {counted(len(rows), 'answer')} are {shortened(label, 30)} ({rest}{more}): "
        f"saying so every time is right in {count / len(rows):.0%}"
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
        DataCheck("answer_format", answer_format, description="Answers that leave the form of nearly all others."),
        DataCheck("label_balance", label_balance, description="Short answers of which one drowns the others."),
    ]
