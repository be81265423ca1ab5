"""Going through the data once, and looking up later what was noted by number."""

from __future__ import annotations

from typing import Any

from core.audit import Audit, CheckPlan, DataCheck, DataFacts, Finding, Watch
from core.audit.looked import FEW, looked_up
from core.audit.report import some_places
from core.audit.watching import in_chunks


def test_many_lines_are_looked_up_when_asked_for() -> None:
    asked: list[int] = []

    def look(number: int) -> str:
        asked.append(number)
        return f"data.jsonl:{number}"

    lines = looked_up(range(10 * FEW), look)
    assert len(lines) == 10 * FEW
    assert asked == []
    assert (lines[3], list(lines[:2]), lines[-1]) == (
        "data.jsonl:3",
        ["data.jsonl:0", "data.jsonl:1"],
        "data.jsonl:99999",
    )
    assert len(asked) == 4
    assert some_places(lines) == "data.jsonl:0, 1, 2 and 99,997 more"
    assert isinstance(looked_up([1, 2], look), list)


def test_a_watch_sees_all_parts_in_order_and_numbers_them_through() -> None:
    seen: list[tuple[str, int, int]] = []

    def watch(facts: DataFacts, options: Any) -> Watch:
        assert len(facts.train) == 0
        assert facts.sequence_len == 10

        def see(part: str, first: int, examples: Any) -> None:
            seen.append((part, first, len(examples)))

        return Watch(see, lambda facts: [Finding("seen", facts.places([0, 3, 4]))])

    class Placed:
        kept = False

        def __init__(self, place: str) -> None:
            self.place = place

    parts = [[Placed(f"{name}:{line}") for line in range(count)] for name, count in (("a", 3), ("b", 1), ("c", 2))]
    facts = DataFacts(*parts, None, 10)  # type: ignore[arg-type]
    run = Audit([CheckPlan(DataCheck("mine", lambda facts, options: [], watch=watch), "warn")], None, 10)  # type: ignore[arg-type]
    for part, _, examples in in_chunks(facts):
        run.see(part, examples)
    report = run.report(facts)
    assert seen == [("train", 0, 3), ("validation", 3, 1), ("test", 4, 2)]
    assert report.examples == 6
    assert list(report.entries[0].finding.places) == ["a:0", "b:0", "c:0"]
