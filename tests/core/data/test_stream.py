from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from core.data.collect import Limits
from core.data.prepare import prepare
from core.data.stream import Stream, StreamedRow, streamed_lines
from core.errors import DataError
from tests.core.data.making import alpaca_rows, dataset, plan_of, trained_text, write_lines


def streamed(tokenizer: Any, *datasets: Any, buffer: int = 8, seed: int = 1, limits: Limits | None = None) -> Stream:
    return Stream(datasets, tokenizer, limits or Limits(256, "drop", rows=buffer), buffer, seed)


def places(stream: Stream, count: int) -> list[str]:
    return [row.place for row in islice(stream.rows(), count)]


def test_a_pass_has_every_row_once_in_an_order_of_the_seed(tokenizer: Any, in_tmp_path: Path) -> None:
    path = write_lines(in_tmp_path / "data.jsonl", alpaca_rows(30))
    whole = {f"data.jsonl:{line}" for line in range(1, 31)}
    first = places(streamed(tokenizer, dataset(path)), 90)
    assert [set(first[start : start + 30]) for start in (0, 30, 60)] == [whole] * 3
    assert len({tuple(first[start : start + 30]) for start in (0, 30, 60)}) == 3
    assert first == places(streamed(tokenizer, dataset(path)), 90)
    assert first != places(streamed(tokenizer, dataset(path), seed=2), 90)


def test_rows_move_no_further_forwards_than_the_buffer_reaches(tokenizer: Any, in_tmp_path: Path) -> None:
    path = write_lines(in_tmp_path / "data.jsonl", alpaca_rows(60))
    order = [int(place.rpartition(":")[2]) for place in places(streamed(tokenizer, dataset(path)), 60)]
    assert order != sorted(order)
    assert all(line <= position + 8 for position, line in enumerate(order, start=1))


def test_rows_are_those_that_prepare_would_make(tokenizer: Any, in_tmp_path: Path) -> None:
    path = write_lines(in_tmp_path / "data.jsonl", alpaca_rows(5))
    rows = list(islice(streamed(tokenizer, dataset(path), buffer=0).rows(), 5))
    assert [row.place for row in rows] == [f"data.jsonl:{line}" for line in range(1, 6)]
    texts = [trained_text({"input_ids": row.input_ids, "labels": row.labels}, tokenizer) for row in rows]
    assert texts == [f"number {number}<|im_end|>" for number in range(5)]


def test_data_sets_are_drawn_by_weight_and_begin_again(tokenizer: Any, in_tmp_path: Path) -> None:
    small = dataset(write_lines(in_tmp_path / "small.jsonl", alpaca_rows(3)), weight=3)
    large = dataset(write_lines(in_tmp_path / "large.jsonl", alpaca_rows(400)), key=("datasets", 1))
    found = Counter(place.partition(":")[0] for place in places(streamed(tokenizer, small, large), 800))
    assert 540 < found["small.jsonl"] < 660  # three in four of 800


def test_without_a_buffer_one_data_set_comes_after_the_other(tokenizer: Any, in_tmp_path: Path) -> None:
    first = dataset(write_lines(in_tmp_path / "a.jsonl", alpaca_rows(2)))
    second = dataset(write_lines(in_tmp_path / "b.jsonl", alpaca_rows(1)), key=("datasets", 1))
    assert places(streamed(tokenizer, first, second, buffer=0), 5) == [
        *("a.jsonl:1", "a.jsonl:2", "b.jsonl:1"),
        *("a.jsonl:1", "a.jsonl:2"),
    ]


def test_long_rows_are_left_out_cut_or_refused(tokenizer: Any, in_tmp_path: Path) -> None:
    rows = [*alpaca_rows(2), {"instruction": "Say it.", "input": "", "output": "word " * 300}]
    path = write_lines(in_tmp_path / "data.jsonl", rows)

    def all_of(strategy: str) -> tuple[list[StreamedRow], Stream]:
        stream = streamed(tokenizer, dataset(path), buffer=0, limits=Limits(128, strategy))
        return list(islice(stream.rows(), 3)), stream

    dropped, stream = all_of("drop")
    assert [row.place for row in dropped] == ["data.jsonl:1", "data.jsonl:2", "data.jsonl:1"]
    assert stream.counts()[0]["dropped_too_long"] > 0
    cut, stream = all_of("truncate")
    assert [len(row.input_ids) for row in cut][2] == 128
    assert stream.counts()[0]["truncated"] > 0
    with pytest.raises(DataError, match=r"data.jsonl:3 has [\d,]+ tokens, more than sequence_len 128"):
        all_of("raise")


def test_a_bad_row_stops_or_is_counted(tokenizer: Any, in_tmp_path: Path) -> None:
    rows = [*alpaca_rows(18), {"instruction": "No answer."}, {"instruction": "Null.", "output": None}]
    path = write_lines(in_tmp_path / "data.jsonl", rows)
    with pytest.raises(DataError) as refused:
        places(streamed(tokenizer, dataset(path)), 30)
    assert "data.jsonl:19" in refused.value.message
    assert "'output'" in refused.value.message
    lenient = streamed(tokenizer, dataset(path), limits=Limits(256, "drop", skipped=0.1, rows=8))
    found = places(lenient, 36)
    assert not {"data.jsonl:19", "data.jsonl:20"} & set(found)
    (counts,) = lenient.counts()
    assert counts["bad_rows"] >= 4  # two in each pass
    assert counts["rows_of_a_pass"] == 20
    with pytest.raises(DataError, match=r"max_bad_rows|cannot be used"):
        places(streamed(tokenizer, dataset(path), limits=Limits(256, "drop", skipped=0.05, rows=8)), 36)


def test_a_data_set_with_nothing_to_train_on_does_not_run_for_ever(tokenizer: Any, in_tmp_path: Path) -> None:
    path = write_lines(in_tmp_path / "data.jsonl", alpaca_rows(4))
    with pytest.raises(DataError, match=r"data.jsonl has nothing to train on"):
        places(streamed(tokenizer, dataset(path), limits=Limits(8, "drop")), 1)


def test_rows_that_came_tokenised_and_do_not_fit_are_named(tokenizer: Any, in_tmp_path: Path) -> None:
    rows = [{"input_ids": [5, 6], "labels": [5, 6]}, {"input_ids": [5, 6], "labels": [5]}]
    path = write_lines(in_tmp_path / "data.jsonl", rows)
    with pytest.raises(DataError, match=r"data.jsonl:2"):
        places(streamed(tokenizer, dataset(path, "pretokenised")), 2)


def test_a_held_out_row_is_known_again_behind_the_first_ones(tokenizer: Any, in_tmp_path: Path) -> None:
    train = dataset(write_lines(in_tmp_path / "data.jsonl", alpaca_rows(30)))
    test = dataset(write_lines(in_tmp_path / "test.jsonl", alpaca_rows(1, start=25)), key=("evaluation", "datasets", 0))
    val = dataset(write_lines(in_tmp_path / "val.jsonl", alpaca_rows(1, start=28)), key=("test_datasets", 0))

    def stream(level: str, **held: Any) -> Stream:
        checks = {"leakage": level}
        values = {"streaming": True, "streaming_multipack_buffer_size": 8, "max_steps": 3}
        data = prepare(plan_of(in_tmp_path, train, checks=checks, **held, **values), tokenizer)
        assert len(data.train) == 8
        assert data.stream is not None
        return data.stream

    for held, place, known in (
        ({"evaluation": [test]}, "data.jsonl:26", "test.jsonl:1"),
        ({"validation": [val]}, "data.jsonl:29", "val.jsonl:1"),
    ):
        with pytest.raises(DataError, match=rf"{known} is held out, and {place} of the training data is the same"):
            places(stream("error", **held), 30)
        warned = stream("warn", **held)
        assert len(set(places(warned, 30))) == 30
        assert warned.counts()[0]["held_out_too"] >= 1
        said = streamed_lines(warned.counts())
        assert any("held out too, so their score means little" in line for line in said)
        assert len(places(stream("off", **held), 30)) == 30
