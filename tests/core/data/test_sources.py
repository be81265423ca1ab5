from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path
from typing import Any

import pytest

from core.data import datasets_library, read_rows
from core.errors import DataError
from tests.core.data.making import alpaca_rows, dataset, write_lines


def numbers(path: Path | str, **options: Any) -> list[int]:
    return [row.values["n"] for row in read_rows(dataset(path, **options))]


def numbered(path: Path, count: int, start: int = 0) -> Path:
    return write_lines(path, [{"n": n} for n in range(start, start + count)])


def pack(content: bytes, ending: str) -> bytes:
    """`content` compressed; skips the test where the package for it is missing."""
    if ending == "zst":
        zstandard = pytest.importorskip("zstandard", reason="the extra zstd is not installed")
        # two frames, as parallel compressors write them
        half = len(content) // 2
        return b"".join(zstandard.ZstdCompressor().compress(part) for part in (content[:half], content[half:]))
    return {"gz": gzip, "bz2": bz2, "xz": lzma}[ending].compress(content)


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
    write_lines(in_tmp_path / "data.dat", [{"n": 1}])
    error = refusal(in_tmp_path / "data.dat")
    assert error.message == "data.dat: the ending '.dat' is not a kind of file that can be read"
    assert error.help == "set ds_type to one of json, jsonl, csv, tsv, parquet, arrow, text"
    assert numbers(in_tmp_path / "data.dat", ds_type="jsonl") == [1]


def test_plain_text_is_a_row_a_line(in_tmp_path: Path) -> None:
    (in_tmp_path / "data.txt").write_bytes(b"\xef\xbb\xbfone\r\n\n two\nthr\0ee")
    rows = list(read_rows(dataset(in_tmp_path / "data.txt")))
    assert [(row.values, row.place) for row in rows] == [
        ({"text": "one"}, "data.txt:1"),
        ({"text": " two"}, "data.txt:3"),
        ({}, "data.txt:4"),
    ]
    assert rows[-1].problem == "the line holds a NUL character"


def test_text_files_of_a_folder_are_read_when_asked_for(in_tmp_path: Path) -> None:
    (in_tmp_path / "set").mkdir()
    (in_tmp_path / "set" / "a.txt").write_text("one\n")
    assert refusal(in_tmp_path / "set").help == "to read its .txt files, set ds_type: text"
    assert [row.values for row in read_rows(dataset(in_tmp_path / "set", ds_type="text"))] == [{"text": "one"}]


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "txt"])
def test_compressed_files_are_the_same_as_plain_ones(in_tmp_path: Path, ending: str, kind: str) -> None:
    content = {
        "jsonl": "".join(f'{{"text": "number {n}"}}\n' for n in range(3000)),
        "json": "[" + ",\n".join(f'{{"text": "number {n}"}}' for n in range(3000)) + "]",
        "csv": "text\n" + "".join(f"number {n}\n" for n in range(3000)),
        "txt": "".join(f"number {n}\n" for n in range(3000)),
    }[kind].encode()
    (in_tmp_path / f"data.{kind}").write_bytes(content)
    (in_tmp_path / f"data.{kind}.{ending}").write_bytes(pack(content, ending))
    plain = list(read_rows(dataset(in_tmp_path / f"data.{kind}")))
    packed = list(read_rows(dataset(in_tmp_path / f"data.{kind}.{ending}")))
    assert [row.values for row in packed] == [row.values for row in plain]
    assert len(packed) == 3000
    assert packed[7].place == plain[7].place.replace(kind, f"{kind}.{ending}")


def test_a_slice_that_starts_at_the_beginning_reads_no_further(in_tmp_path: Path) -> None:
    write_lines(in_tmp_path / "data.jsonl", [{"n": 1}, {"n": 2}])
    with (in_tmp_path / "data.jsonl").open("ab") as file:
        file.write(b"\xff not text")
    assert numbers(in_tmp_path / "data.jsonl", split="train[:2]") == [1, 2]
    assert "is not UTF-8" in refusal(in_tmp_path / "data.jsonl", split="train[:50%]").message


def test_a_slice_longer_than_the_data(in_tmp_path: Path) -> None:
    error = refusal(numbered(in_tmp_path / "data.jsonl", 5), split="train[:9]")
    assert error.message == "split 'train[:9]' cannot be used on 5 rows: the slice ends at 9"


def test_one_file_has_no_other_split(in_tmp_path: Path) -> None:
    error = refusal(numbered(in_tmp_path / "data.jsonl", 5), split="validation")
    assert error.message == "data.jsonl is one file, which has no split 'validation'"
    assert numbers(numbered(in_tmp_path / "test.jsonl", 2), split="test") == [0, 1]


def test_kind_as_path_with_data_files(in_tmp_path: Path) -> None:
    numbered(in_tmp_path / "data.jsonl", 2)
    assert numbers("json", data_files="data.jsonl") == [0, 1]


def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(path: str, **options: Any) -> Any:
        asked = {"name": "main", "split": "test", "revision": "abc", "data_files": None, "streaming": False}
        assert options == asked
        raise ConnectionError("Couldn't reach 'some/set' on the Hub (LocalEntryNotFoundError)")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets_library, "hub_reachable", lambda: False)
    error = refusal("some/set", name="main", split="test", revision="abc")
    assert error.message == "the data set 'some/set' is not in the hub's cache, and the hub cannot be reached"
    monkeypatch.setattr(datasets_library, "hub_reachable", lambda: True)
    error = refusal("some/set", name="main", split="test", revision="abc")
    assert error.message == (
        "the data set 'some/set' cannot be loaded from the hub: "
        "Couldn't reach 'some/set' on the Hub (LocalEntryNotFoundError)"
    )


def test_hub_rows_that_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def rows() -> Any:
        yield from ({"n": n} for n in range(5))
        raise ConnectionError("the hub went away")

    def load_dataset(path: str, **options: Any) -> Any:
        assert options["streaming"] is True
        return datasets.IterableDataset.from_generator(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets_library, "hub_reachable", lambda: True)
    assert numbers("some/set", streaming=True, split="train[1:4]") == [1, 2, 3]
    assert refusal("some/set", streaming=True).message == (
        "the data set 'some/set' cannot be loaded from the hub: the hub went away"
    )


def test_hub_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = datasets.Dataset.from_list([{"n": n} for n in range(10)])
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **options: rows)
    assert numbers("some/set", split="train[:20%]") == [0, 1]
    assert next(iter(read_rows(dataset("some/set")))).place == "some/set row 1"
