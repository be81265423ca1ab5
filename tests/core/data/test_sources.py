from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.data import read_rows
from core.errors import DataError
from tests.core.data.making import alpaca_rows, dataset, write_lines


def numbers(path: Path | str, **options: Any) -> list[int]:
    return [row.values["n"] for row in read_rows(dataset(path, **options))]


def numbered(path: Path, count: int, start: int = 0) -> Path:
    return write_lines(path, [{"n": n} for n in range(start, start + count)])


def refusal(path: Path | str, **options: Any) -> DataError:
    with pytest.raises(DataError) as error:
        list(read_rows(dataset(path, **options)))
    return error.value


def test_split_slices(tmp_path: Path) -> None:
    path = numbered(tmp_path / "data.jsonl", 50)
    assert numbers(path, split="train") == list(range(50))
    assert numbers(path, split="train[:20%]") == list(range(10))
    assert numbers(path, split="train[45:]") == [45, 46, 47, 48, 49]
    assert numbers(path, split="train[-2:]") == [48, 49]


def test_bad_slice(tmp_path: Path) -> None:
    error = refusal(numbered(tmp_path / "data.jsonl", 5), split="train[20%")
    assert error.message.startswith("split 'train[20%' cannot be used on 5 rows: ")
    assert error.help == "write it as train[:20%], train[100:200] or train[-50:]"


def test_empty_slice(in_tmp_path: Path) -> None:
    error = refusal(numbered(in_tmp_path / "data.jsonl", 3), split="train[:1%]")
    assert error.message == "data.jsonl holds no rows in 'train[:1%]'"


def test_shards(tmp_path: Path) -> None:
    path = numbered(tmp_path / "data.jsonl", 10)
    parts = [numbers(path, shards=3, shards_idx=index) for index in range(3)]
    assert parts == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert numbers(path, shards=3) == parts[0]
    assert refusal(path, shards=3, shards_idx=3).message == "shards_idx 3 is not one of 3 shards"


@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data.csv"])
def test_empty_file(in_tmp_path: Path, name: str) -> None:
    (in_tmp_path / name).write_text("")
    assert refusal(in_tmp_path / name).message == f"{name} holds no rows"


def test_header_alone(in_tmp_path: Path) -> None:
    (in_tmp_path / "data.csv").write_text("instruction,output\n")
    assert refusal(in_tmp_path / "data.csv").message == "data.csv holds no rows"


def test_folder_of_files(tmp_path: Path) -> None:
    numbered(tmp_path / "b.jsonl", 2, start=2)
    numbered(tmp_path / "a.jsonl", 2)
    (tmp_path / "README.md").write_text("not data")
    assert numbers(tmp_path) == [0, 1, 2, 3]
    assert numbers(tmp_path, data_files="b.jsonl") == [2, 3]
    assert numbers(tmp_path, data_files=["b.*", "a.*"]) == [2, 3, 0, 1]


def test_folder_with_splits(in_tmp_path: Path) -> None:
    folder = in_tmp_path / "set"
    folder.mkdir()
    numbered(folder / "train-00000.jsonl", 2)
    numbered(folder / "test.jsonl", 1, start=9)
    assert numbers(folder) == [0, 1]
    assert numbers(folder, split="test") == [9]
    assert numbers(folder, split="train[:1]") == [0]
    error = refusal(folder, split="validation")
    assert error.message == "set has no files for split 'validation'; it has: test, train"


def test_folder_without_data(in_tmp_path: Path) -> None:
    (in_tmp_path / "set").mkdir()
    assert refusal(in_tmp_path / "set").message == "the folder set holds no data files"


def test_folder_of_one_kind(tmp_path: Path) -> None:
    numbered(tmp_path / "a.jsonl", 1)
    (tmp_path / "b.csv").write_text("n\n7\n")
    assert [row.values for row in read_rows(dataset(tmp_path, ds_type="csv"))] == [{"n": "7"}]


def test_saved_data_set(in_tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    saved = Dataset.from_list([{"n": 1}, {"n": 2}])
    saved.save_to_disk("plain")
    DatasetDict({"train": saved, "test": saved.select([1])}).save_to_disk("parted")
    assert numbers(in_tmp_path / "plain") == [1, 2]
    assert numbers(in_tmp_path / "parted") == [1, 2]
    assert numbers(in_tmp_path / "parted", split="test") == [2]
    assert [row.place for row in read_rows(dataset(in_tmp_path / "plain"))] == ["plain row 1", "plain row 2"]
    assert refusal(in_tmp_path / "parted", split="dev").message == "parted has no split 'dev'; it has: train, test"


def test_saved_data_set_that_is_broken(in_tmp_path: Path) -> None:
    (in_tmp_path / "set").mkdir()
    (in_tmp_path / "set" / "state.json").write_text("{}")
    assert refusal(in_tmp_path / "set").message.startswith("set cannot be read as a saved data set: ")


def test_missing_file(in_tmp_path: Path) -> None:
    write_lines(in_tmp_path / "train.jsonl", alpaca_rows(1))
    error = refusal(in_tmp_path / "trian.jsonl")
    assert (error.message, error.help) == ("no data at 'trian.jsonl'", "did you mean 'train.jsonl'?")
    error = refusal(in_tmp_path / "no" / "train.jsonl")
    assert error.help == "the folder no does not exist either; paths are relative to the recipe"
    assert refusal("data.jsonl").message == "no data at 'data.jsonl'"


def test_kind_of_file(in_tmp_path: Path) -> None:
    write_lines(in_tmp_path / "data.txt", [{"n": 1}])
    error = refusal(in_tmp_path / "data.txt")
    assert error.message == "data.txt: the ending '.txt' is not a kind of file that can be read"
    assert error.help == "set ds_type to one of json, jsonl, csv, tsv, parquet, arrow"
    assert numbers(in_tmp_path / "data.txt", ds_type="jsonl") == [1]


def test_kind_as_path_with_data_files(in_tmp_path: Path) -> None:
    numbered(in_tmp_path / "data.jsonl", 2)
    assert numbers("json", data_files="data.jsonl") == [0, 1]


def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(path: str, **options: Any) -> Any:
        assert options == {"name": "main", "split": "test", "revision": "abc", "data_files": None}
        raise ConnectionError("Couldn't reach 'some/set' on the Hub (LocalEntryNotFoundError)")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    error = refusal("some/set", name="main", split="test", revision="abc")
    assert error.message == (
        "the data set 'some/set' cannot be loaded from the hub: "
        "Couldn't reach 'some/set' on the Hub (LocalEntryNotFoundError)"
    )


def test_hub_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = datasets.Dataset.from_list([{"n": n} for n in range(10)])
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **options: rows)
    assert numbers("some/set", split="train[:20%]") == [0, 1]
    assert next(iter(read_rows(dataset("some/set")))).place == "some/set row 1"
