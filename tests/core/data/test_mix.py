"""Data sets mixed by weight: exact counts, drawn by the seed, nothing left out without a word."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.data import prepare
from core.data.mix import weighted
from core.errors import DataError
from tests.core.data.making import alpaca_rows, dataset, plan_of, write_lines


@pytest.mark.parametrize(("weight", "count"), [(1, 10), (2, 20), (0.5, 5), (2.5, 25), (0.26, 3), (3.04, 30)])
def test_counts(weight: float, count: int) -> None:
    rows = np.arange(100, 110)
    mixed = weighted(rows, weight, seed=1, number=0, name="a")
    assert len(mixed) == count
    times = Counter(mixed.tolist())
    assert set(times) <= set(rows.tolist())
    assert max(times.values()) - min(times.get(row, 0) for row in rows.tolist()) <= 1


def test_the_seed_draws() -> None:
    rows = np.arange(1000)
    drawn = [weighted(rows, 0.3, seed, number, "a").tolist() for seed, number in ((1, 0), (1, 0), (2, 0), (1, 1))]
    assert drawn[0] == drawn[1] == sorted(drawn[0])
    assert drawn[0] != drawn[2]
    assert drawn[0] != drawn[3]


def test_nothing_left() -> None:
    with pytest.raises(DataError, match=r"weight 0\.001 leaves none of the 100 examples of a\.jsonl"):
        weighted(np.arange(100), 0.001, 1, 0, "a.jsonl")


def test_a_run_trains_on_each_as_often_as_its_weight(
    tokenizer: Any, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = dataset(write_lines(in_tmp_path / "first.jsonl", alpaca_rows(20)), weight=2.5)
    second = dataset(write_lines(in_tmp_path / "second.jsonl", alpaca_rows(40, start=100)), weight=0.25)
    plain = dataset(write_lines(in_tmp_path / "plain.jsonl", alpaca_rows(10, start=200)))
    data = prepare(plan_of(in_tmp_path, first, second, plain), tokenizer)
    times = Counter(place.partition(":")[0] for place in data.train["place"])
    assert times == {"first.jsonl": 50, "second.jsonl": 10, "plain.jsonl": 10}
    assert data.stats["train"]["examples"] == 70
    assert [entry["in_one_pass"] for entry in data.stats["datasets"]] == [50, 10, 10]
    said = capsys.readouterr().out
    assert "note: first.jsonl: weight 2.5: 50 examples in one pass over the data, of 20 different ones" in said
    assert "note: second.jsonl: weight 0.25: 10 examples in one pass over the data, of 40 different ones" in said
    assert "plain.jsonl: weight" not in said
    again = prepare(plan_of(in_tmp_path, first, second, plain), tokenizer)
    assert again.train["place"][:] == data.train["place"][:]


def test_what_validates_is_held_back_before_weights(tokenizer: Any, in_tmp_path: Path) -> None:
    only = dataset(write_lines(in_tmp_path / "data.jsonl", alpaca_rows(40)), weight=3)
    data = prepare(plan_of(in_tmp_path, only, val_set_size=10), tokenizer)
    assert data.val is not None
    assert len(data.val) == len(set(data.val["place"])) == 10
    assert len(data.train) == 90
    assert not set(data.val["place"]) & set(data.train["place"])
