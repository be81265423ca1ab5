"""Which examples to show: by number or place, by a text in them, the longest, or some from everywhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from core.audit import AuditReport, CheckedExample, DataFacts
from core.errors import UserError
from core.types import Plan

SAMPLES = 3
PARTS = ("train", "validation", "evaluation")


def facts_by_part(facts: DataFacts) -> dict[str, Sequence[CheckedExample]]:
    """The examples of each part of the data, by the names that users know."""
    return dict(zip(PARTS, (facts.train, facts.validation, facts.test), strict=True))


def refuse_part(plan: Plan, name: str) -> None:
    """Raise `UserError` where the recipe names no data for a part; before anything is read."""
    datasets = dict(zip(PARTS, (plan.datasets, plan.validation, plan.evaluation.datasets), strict=True))
    if not datasets[name]:
        there = ", ".join(other for other, named in datasets.items() if named)
        help = (
            "val_set_size is split off when a run starts: its examples are in train" if name == "validation" else None
        )
        raise UserError(f"the recipe names no data for {name}; it has: {there}", help=help or "name them in the recipe")


def part_of(facts: DataFacts, name: str) -> Sequence[CheckedExample]:
    """The examples of one part. Raises `UserError` where there are none."""
    part = facts_by_part(facts)[name]
    if not part:
        raise UserError(f"the data for {name} hold no example", help="add rows, or look at another --part")
    return part


def private_places(report: AuditReport) -> frozenset[str]:
    """Where examples stand whose text a check does not want to be shown."""
    return frozenset(place for entry in report.entries if entry.finding.private for place in entry.finding.places)


def choose(
    examples: Sequence[CheckedExample],
    *,
    row: str | None = None,
    grep: str | None = None,
    longest: bool = False,
    samples: int | None = None,
    private: Collection[str] = (),
) -> list[CheckedExample]:
    """The examples asked for, at most `samples` (default 3). Raises `UserError` where there is no such example.

    row: a number from 1, or a place such as `train.jsonl:12`. private: the places of examples that are shown only where
    they are asked for by `row` or `grep`.
    """
    chosen = list(examples)
    if row is not None:
        chosen = _at(examples, row)
    elif grep is None:
        chosen = [example for example in chosen if example.place not in private]
    if grep is not None:
        # a row that came tokenised has no text
        chosen = [example for example in chosen if grep.casefold() in example.text.casefold()]
        if not chosen:
            raise UserError(f"no example holds {grep!r}", help="it is looked for in the rendered text, in any case")
    limit = samples or SAMPLES
    if longest:
        return sorted(chosen, key=lambda example: -example.length)[:limit]
    if row is not None or grep is not None:
        return chosen[: samples or max(limit, 10 if grep is None else limit)]
    step = max(1, len(chosen) // limit)
    return chosen[::step][:limit]


def _at(examples: Sequence[CheckedExample], row: str) -> list[CheckedExample]:
    found = [e for e in examples if e.place == row or (row.isdecimal() and e.number == int(row))]
    if not found and ":" in row:
        # the end of a place is enough, from one of its folders on
        found = [e for e in examples if f"/{e.place}".endswith(f"/{row.removeprefix('./')}")]
    if not found:
        last = max((example.number for example in examples), default=0)
        place = f", or a place such as {examples[-1].place}" if examples else ""
        raise UserError(f"there is no row {row!r}", help=f"write a number from 1 to {last:,}{place}")
    return found
