"""Runs the data checks, and says what they found: a line each, JSON for the run, or a refusal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from core.audit.contents import Contents
from core.audit.facts import CheckedExample, CheckPlan, DataFacts, Finding, Watch
from core.audit.looked import FEW
from core.audit.watching import in_chunks
from core.errors import DataError, PluginError
from core.sharing.variables import hide

if TYPE_CHECKING:
    from core.recipe import Recipe
    from core.types import Tokenizer

SHOWN_PLACES = 3
SHOWN_DETAILS = 5
SAVED_PLACES = 20
SHOWN_KINDS = 5


@dataclass(frozen=True)
class AuditEntry:
    """One finding, with the check that made it and the level that the recipe gives it: `error` or `warn`."""

    check: str
    level: str
    finding: Finding


@dataclass(frozen=True)
class AuditReport:
    """What the checks found, errors first. examples: how many were looked at. checks: the level of each check made.
    spreads: how many training examples are of which kind, by check."""

    entries: Sequence[AuditEntry] = ()
    examples: int = 0
    seconds: float = 0.0
    checks: Mapping[str, str] | None = None
    spreads: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def errors(self) -> list[AuditEntry]:
        """The findings that stop a run."""
        return [entry for entry in self.entries if entry.level == "error"]

    def as_json(self) -> dict[str, Any]:
        """What is saved with the run."""
        return {
            "examples": self.examples,
            "checks": dict(self.checks or {}),
            "spreads": {name: dict(kinds) for name, kinds in self.spreads.items()},
            "findings": [
                {
                    "check": entry.check,
                    "level": entry.level,
                    "message": entry.finding.message,
                    "count": entry.finding.number,
                    "places": list(entry.finding.places[:SAVED_PLACES]),
                    "help": entry.finding.help,
                }
                for entry in self.entries
            ],
        }


class Audit:
    """The checks of a run, which see the examples as they are prepared: train first, then validation, then test.

    held_out: whether there will be any but those of train.
    """

    def __init__(
        self, checks: Sequence[CheckPlan], tokenizer: Tokenizer, sequence_len: int, *, held_out: bool = True
    ) -> None:
        self._checks = checks
        empty = DataFacts((), (), (), tokenizer, sequence_len, held_out=held_out)
        self._watches = {
            index: plan.check.watch(empty, plan.options)
            for index, plan in enumerate(checks)
            if plan.check.watch is not None
        }
        self._contents = Contents()
        self._examples = 0
        self._seconds = 0.0

    def see(self, part: str, examples: Sequence[CheckedExample]) -> None:
        """The next examples, of `train`, `validation` or `test`."""
        if not examples:
            return
        start = time.perf_counter()
        if self._watches:
            self._contents.see(part, self._examples, examples)
        for watch in self._watches.values():
            watch.see(part, self._examples, examples)
        self._examples += len(examples)
        self._seconds += time.perf_counter() - start

    def report(self, facts: DataFacts) -> AuditReport:
        """What was found. Raises `PluginError` for a check that returns anything but findings."""
        start = time.perf_counter()
        if self._watches:
            facts = replace(facts, contents=self._contents)
        entries = [
            AuditEntry(plan.check.name, plan.level, finding)
            for index, plan in enumerate(self._checks)
            for finding in _findings(plan, self._watches.get(index), facts)
        ]
        entries.sort(key=lambda entry: entry.level != "error")
        return AuditReport(
            tuple(entries),
            self._examples,
            self._seconds + time.perf_counter() - start,
            {plan.check.name: plan.level for plan in self._checks},
            {
                self._checks[index].check.name: watch.spread()
                for index, watch in self._watches.items()
                if watch.spread is not None
            },
        )


def audit(checks: Sequence[CheckPlan], facts: DataFacts) -> AuditReport:
    """Make all `checks` of data that is there. Raises `PluginError` for a check that returns anything but findings."""
    run = Audit(checks, facts.tokenizer, facts.sequence_len)
    for part, _, examples in in_chunks(facts):
        run.see(part, examples)
    return run.report(facts)


def audit_lines(report: AuditReport, speed: str | None = None) -> list[str]:
    """One line per warning, then what was done; nothing where no check was made. speed: said in place of the rate."""
    if not report.checks:
        return []
    lines = [_warning(entry) for entry in report.entries if entry.level == "warn"]
    told = {entry.check for entry in report.entries}
    lines += [
        f"note: training examples by {name}: {spread_of(kinds)}"
        for name, kinds in several(report).items()
        if name not in told
    ]
    if speed is None:
        speed = f"{report.examples / report.seconds:,.0f}/s" if report.seconds else "at once"
    found = [f"{number} {word}{'' if number == 1 else 's'}" for number, word in _counts(report) if number]
    checks = f"{len(report.checks)} check{'' if len(report.checks) == 1 else 's'}"
    done = f"audit: {checks} of {report.examples:,} examples ({speed}): "
    return [*lines, done + (", ".join(found) or "nothing to remark")]


def several(report: AuditReport) -> dict[str, Mapping[str, int]]:
    """The spreads over more than one kind, by check."""
    return {name: kinds for name, kinds in report.spreads.items() if len(kinds) > 1}


def spread_of(kinds: Mapping[str, int]) -> str:
    """`English 72 (60 %), German 48 (40 %)`."""
    total = sum(kinds.values())
    shown = [f"{kind} {count:,} ({count / total:.0%})" for kind, count in list(kinds.items())[:SHOWN_KINDS]]
    more = len(kinds) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def refuse_errors(report: AuditReport, recipe: Recipe) -> None:
    """Raise `DataError` with all findings that are errors, if there are any, and no variable's value in them."""
    errors = report.errors
    if not errors:
        return
    way_out = ", ".join(f"{name}: warn" for name in dict.fromkeys(entry.check for entry in errors))
    helps = list(dict.fromkeys(entry.finding.help for entry in errors if entry.finding.help))
    helps.append(f"where it is meant, set data_checks: {{{way_out}}}")
    message = "\n".join(_refusal(entry.finding) for entry in errors)
    raise DataError(hide(message, recipe), help=hide("; ".join(helps), recipe))


def some_places(places: Sequence[str], shown: int = SHOWN_PLACES) -> str:
    """The first places, and how many more there are; a file is named once for several of its lines."""
    # of very many, only the first are looked up
    distinct = list(dict.fromkeys(places[:FEW]))
    count = len(distinct) if len(places) <= FEW else len(places)
    more = f" and {count - shown:,} more" if count > shown else ""
    named, before = [], ""
    for place in distinct[:shown]:
        file, mark, line = place.rpartition(":")
        named.append(line if mark and file == before else place)
        before = file
    return ", ".join(named) + more


def _findings(plan: CheckPlan, watch: Watch | None, facts: DataFacts) -> list[Finding]:
    found = plan.check.check(facts, plan.options) if watch is None else watch.findings(facts)
    if not isinstance(found, list) or not all(isinstance(finding, Finding) for finding in found):
        raise PluginError(f"data check {plan.check.name!r} returned {found!r}, not a list of Finding")
    return found


def _counts(report: AuditReport) -> list[tuple[int, str]]:
    errors = len(report.errors)
    return [(errors, "error"), (len(report.entries) - errors, "warning")]


def _warning(entry: AuditEntry) -> str:
    finding = entry.finding
    places = f" ({some_places(finding.places)})" if finding.places else ""
    return f"warning: {entry.check}: {finding.message}{places}" + (f"; {finding.help}" if finding.help else "")


def _refusal(finding: Finding) -> str:
    if not finding.details:
        return finding.message + (f": {some_places(finding.places, SHOWN_DETAILS)}" if finding.places else "")
    shown = "".join(f"\n  {line}" for line in finding.details[:SHOWN_DETAILS])
    left = len(finding.details) - SHOWN_DETAILS
    return finding.message + shown + (f"\n  ... and {left:,} more" if left > 0 else "")
