"""Examples on disk are the examples that were put there."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.audit import CheckedExample, audit
from core.audit.facts import CheckPlan, DataFacts
from core.data.store import KEPT, Store, Stored
from core.host import load_host
from core.testing.data import make_facts
from core.types import DatasetFormat, Example, Segment


def stored(examples: Sequence[CheckedExample], folder: Path, chunk: int = 3) -> Stored:
    """The examples in two stores, one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    stores = []
    for number, part in enumerate((examples[:7], examples[7:])):
        store = Store(folder, str(number), examples[0].dataset if examples else None)  # type: ignore[arg-type]
        for start in range(0, len(part), chunk):
            store.add(part[start : start + chunk])
        store.close()
        stores.append(store)
    return Stored(stores)


def same(first: CheckedExample, second: CheckedExample) -> bool:
    return all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in ((getattr(first, field.name), getattr(second, field.name)) for field in fields(CheckedExample))
    )


def made(row: Any, options: Any, tokenizer: Any) -> list[Example]:
    """Anything that a format may give."""
    if "ids" in row:
        return [Example(input_ids=row["ids"], labels=row["ids"])]
    texts = [Segment(text, index % 2 == 1, index == row.get("answer")) for index, text in enumerate(row["texts"])]
    return [Example(texts, notes=("one", "two")[: row.get("notes", 0)])]


ROWS: list[dict[str, Any]] = [
    {"texts": ["Ask: ", "caf\u00e9 \U0001f600", "<|im_end|>"], "answer": 1, "notes": 2},
    {"texts": ["", "all of it"], "answer": 1},
    {"texts": ["a", "b", "", "c", "d"], "answer": 3},
    {"texts": ["nothing trained"]},
    {"texts": []},
    {"ids": [5, 6, 7], "when": datetime.datetime(2020, 1, 2), "raw": b"\x00", "nested": {"a": (1, 2), 3: None}},
    *({"texts": [f"question {n}: ", "word " * n, "<|im_end|>"], "answer": 1} for n in range(12)),
]


def facts_of(tokenizer: Any, **options: Any) -> DataFacts:
    return make_facts(ROWS, tokenizer=tokenizer, format=DatasetFormat("any", made), **options)


def test_what_comes_back_is_what_went_in(tokenizer: Any, tmp_path: Path) -> None:
    given = facts_of(tokenizer, sequence_len=12, strategy="truncate").train
    assert any(example.cut for example in given)
    back = stored(given, tmp_path)
    assert len(back) == len(given) == len(ROWS)
    for first, second in zip(given, back, strict=True):
        assert same(first, second), (first, second)
    for index in (0, 5, 6, 7, 17, -1):
        assert same(back[index], given[index])
    assert [example.place for example in back[4:9]] == [example.place for example in given[4:9]]
    assert [back.place(number) for number in range(len(back))] == [example.place for example in given]
    with pytest.raises(IndexError):
        back[len(given)]


def test_counts_are_kept_in_memory(tokenizer: Any, tmp_path: Path) -> None:
    given = facts_of(tokenizer, sequence_len=12).train
    store = Store(tmp_path, "all", given[0].dataset)
    store.add(given)
    store.close()
    assert list(store.lengths) == [example.length for example in given]
    assert list(store.tokens) == [len(example.input_ids) for example in given]
    assert list(store.trained) == [int((example.labels != -100).sum()) for example in given]
    assert [bool(flags & KEPT) for flags in store.flags] == [example.kept for example in given]


def test_an_empty_store_has_files(tmp_path: Path) -> None:
    store = Store(tmp_path, "none", None)  # type: ignore[arg-type]
    store.close()
    assert store.files[0].stat().st_size  # an Arrow file without rows can be read
    assert store.files[1].exists()
    assert list(Stored([store])) == []


def test_checks_find_the_same_on_disk(tokenizer: Any, tmp_path: Path) -> None:
    """Every built-in check, on data with something for each of them, in memory and on disk, and through `check`."""
    host = load_host()
    good = [{"instruction": f"Is {n} even?", "input": "", "output": "no" if n % 2 else "yes"} for n in range(120)]
    odd = [
        {"instruction": "\x07 <b>\u00c3\u00a9</b>", "input": "", "output": text}
        for text in ("n/a", "{", '{"a": 1}', "yes " * 200, "\u0414\u0430, \u4f60\u597d", "to bob@corp.net <|im_end|>")
    ]
    shouted = [{"instruction": f"Is {n} even?", "input": "", "output": "YES "} for n in range(5)]
    rows = [*odd, *good, *odd, *shouted]
    test = [*odd[:2], *good[:3], {"instruction": "Is 3 even ?", "input": " ", "output": "maybe"}]
    given = make_facts(rows, tokenizer=tokenizer, format=host.formats["alpaca"], test=test, validation=good[:2])
    parts = [
        stored(part, tmp_path / name)
        for part, name in zip((given.train, given.validation, given.test), "abc", strict=True)
    ]
    on_disk = DataFacts(*parts, given.tokenizer, given.sequence_len)
    found = 0
    for check in host.data_checks.values():
        options = {key: schema["default"] for key, schema in check.options_schema.items()}
        plan = CheckPlan(check, "warn", options)
        first, second = audit([plan], given).as_json(), audit([plan], on_disk).as_json()
        assert first == second
        direct = [(finding.message, list(finding.places)) for finding in check.check(given, options)]
        assert [(entry["message"], entry["places"]) for entry in first["findings"]] == [
            (message, places[:20]) for message, places in direct
        ]
        found += bool(direct)
    assert found >= 12
