"""What is noted of training examples, and values that are there more than once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.audit import Audit, CheckPlan, DataCheck, DataFacts, Finding, Watch, contents
from core.audit.contents import Contents, contents_of, repeated
from core.host import load_host
from core.testing.data import make_facts
from core.types import DatasetFormat, Example, Segment


@given(st.lists(st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1), max_size=30), st.integers(1, 8))
def test_repeated(values: list[int], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "BLOCK", block)
        found = repeated(np.array(values, dtype=np.int64))
    counts = Counter(values)
    assert found.tolist() == [place for place, value in enumerate(values) if counts[value] > 1]


def facts_of(tokenizer: Any) -> DataFacts:
    answers = ["a", "b", "a", "d", "b", "a", "c"]
    rows = [{"instruction": "say", "input": "", "output": answer} for answer in answers]
    return make_facts(rows, tokenizer=tokenizer, format=load_host().formats["alpaca"])


def test_copies_and_firsts(tokenizer: Any) -> None:
    facts = facts_of(tokenizer)
    found = contents_of(facts)
    kept = [number for number, example in enumerate(facts.train) if example.kept]
    assert list(found.numbers) == kept
    assert len(kept) >= 6
    content = [facts.train[number].content for number in kept]
    copies = [index for index, text in enumerate(content) if text in content[:index]]
    assert copies
    assert found.copies().tolist() == copies
    assert found.firsts().tolist() == [index for index in range(len(kept)) if index not in copies]


def test_what_thinks_otherwise_is_no_copy(tokenizer: Any) -> None:
    def render(row: Any, options: Any, tokenizer: Any) -> list[Example]:
        thought = [Segment(row["thinks"], trained=True, thought=True)] if row["thinks"] else []
        return [Example([Segment("2 + 2?"), *thought, Segment(row["says"], trained=True, answer=True)])]

    rows = [{"thinks": thinks, "says": "4"} for thinks in ("I know.", "1 + 1 + 2.", "", "I know.", "")]
    facts = make_facts(rows, tokenizer=tokenizer, format=DatasetFormat("thinking", render))
    assert len({example.content for example in facts.train}) == 1
    found = contents_of(facts)
    assert found.copies().tolist() == [3, 4]
    assert found.firsts().tolist() == [0, 1, 2]


def test_an_audit_notes_them_once_for_all_checks(tokenizer: Any) -> None:
    facts = facts_of(tokenizer)
    given: list[Contents] = []

    def findings(facts: DataFacts) -> list[Finding]:
        given.append(contents_of(facts))
        return []

    check = DataCheck(
        "mine", lambda facts, options: [], watch=lambda facts, options: Watch(lambda *some: None, findings)
    )
    run = Audit([CheckPlan(check, "warn"), CheckPlan(check, "warn")], tokenizer, 10)
    run.see("train", facts.train[:4])
    run.see("train", facts.train[4:])
    run.report(facts)
    assert given[0] is given[1]
    assert given[0].hashes == contents_of(facts).hashes
    assert list(given[0].numbers) == list(contents_of(facts).numbers)
