from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.data.files import SourceRow, read_file
from core.errors import DataError


def read(path: Path, kind: str) -> list[SourceRow]:
    return list(read_file(path, kind))


def test_json_lines_and_their_lines(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": "\xc3\xa9"}')
    assert read(path, "jsonl") == [SourceRow({"a": 1}, "data.jsonl:1"), SourceRow({"a": "é"}, "data.jsonl:3")]


def test_bad_lines_are_yielded_with_their_problem(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.jsonl"
    path.write_text('{"a": 1}\n{"a": 1,}\n[1]\n"text"\nnull\n{"a": 2}\n')
    rows = read(path, "jsonl")
    assert [row.problem for row in rows] == [
        None,
        "not valid JSON: illegal trailing comma before end of object at column 8"
        if "Illegal trailing" in _message('{"a": 1,}')
        else "not valid JSON: expecting property name enclosed in double quotes at column 9",
        "row is a list, not an object with fields",
        "row is text, not an object with fields",
        "row is null, not an object with fields",
        None,
    ]
    assert [row.place for row in rows] == [f"data.jsonl:{line}" for line in range(1, 7)]


def test_a_cut_off_line_names_the_column_where_it_ends(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.jsonl"
    path.write_bytes(b'{"a": 1, "b": \r\n{"a": 2}\n')
    assert [row.problem for row in read(path, "jsonl")] == ["not valid JSON: expecting value at column 15", None]


def _message(text: str) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.msg
    return ""


def test_json_array_elements_know_where_they_start(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.json"
    path.write_text(' [\n {"a":\n 1},\n\n {"a": 2}, {"a": 3}\n]\n')
    assert read(path, "json") == [
        SourceRow({"a": 1}, "data.json:2"),
        SourceRow({"a": 2}, "data.json:5"),
        SourceRow({"a": 3}, "data.json:5"),
    ]


@pytest.mark.parametrize("text", ["[]", " [ ] \n"])
def test_empty_array(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.json").write_text(text)
    assert read(tmp_path / "data.json", "json") == []


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ('[{"a": 1}\n {"a": 2}]', "data.json:2", "not valid JSON: expecting ',' or ']' after a row"),
        ('[{"a": 1},\n', "data.json:2", "not valid JSON: expecting value"),
        ('[{"a": 1}\n', "data.json:2", "not valid JSON: the file ends before the array does"),
        ('[{"a": 1},\n{"a": \n nope}]', "data.json:3", "not valid JSON: expecting value"),
    ],
)
def test_broken_array(in_tmp_path: Path, text: str, place: str, problem: str) -> None:
    path = in_tmp_path / "data.json"
    path.write_text(text)
    *good, bad = read(path, "json")
    assert good == [SourceRow({"a": 1}, "data.json:1")]
    assert (bad.place, bad.problem) == (place, problem)


def test_json_file_of_lines(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.json"
    path.write_text('{"messages": [1]}\n')
    assert read(path, "json") == [SourceRow({"messages": [1]}, "data.json:1")]
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert [row.place for row in read(path, "json")] == ["data.json:1", "data.json:2"]


def test_rows_further_inside_an_object(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.json"
    path.write_text('{\n "version": 1,\n "data": [{"a": 1}]\n}')
    with pytest.raises(DataError) as error:
        read(path, "json")
    assert error.value.message == "data.json holds one object, not rows; its keys are 'version', 'data'"
    assert error.value.help == "write the list under 'data' to a file of its own"


def test_not_utf8(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.jsonl"
    path.write_bytes('{"a": "x"}\n{"a": "café"}\n'.encode("latin-1"))
    with pytest.raises(DataError) as error:
        read(path, "jsonl")
    assert error.value.message == (
        "data.jsonl:2: byte 0xe9 at position 21 is not UTF-8; the file looks like Latin-1 or Windows-1252"
    )
    assert error.value.help == "convert it first: iconv -f WINDOWS-1252 -t UTF-8 data.jsonl > data-utf8.jsonl"


def test_utf16(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-16")
    with pytest.raises(DataError, match="the file looks like UTF-16"):
        read(path, "csv")


def test_csv_lines_quotes_and_breaks(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.csv"
    path.write_text('text,label\n"two\nlines, one field",yes\n\n007,\n')
    assert read(path, "csv") == [
        SourceRow({"text": "two\nlines, one field", "label": "yes"}, "data.csv:2"),
        SourceRow({"text": "007", "label": ""}, "data.csv:5"),
    ]


def test_tsv(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.tsv"
    path.write_text("text\tlabel\na, b\tyes\n")
    assert read(path, "tsv") == [SourceRow({"text": "a, b", "label": "yes"}, "data.tsv:2")]


def test_csv_rows_of_the_wrong_width(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.csv"
    path.write_text("text,label\na\nb,yes,no\nc,yes\n")
    rows = read(path, "csv")
    assert [row.problem for row in rows] == [
        "row has 1 column, the header has 2",
        "row has 3 columns, the header has 2",
        None,
    ]


def test_csv_header_with_a_repeated_column(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.csv"
    path.write_text("text,text\na,b\n")
    with pytest.raises(DataError, match=r"data\.csv:1: column 'text' occurs twice"):
        read(path, "csv")


def test_csv_with_an_open_quote(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.csv"
    path.write_text('text,label\nfine,yes\n"open,yes\n')
    good, bad = read(path, "csv")
    assert good.problem is None
    assert bad.problem == "not valid CSV: unexpected end of data"


def test_long_csv_field(in_tmp_path: Path) -> None:
    path = in_tmp_path / "data.csv"
    path.write_text("text\n" + "x" * 200_000 + "\n")
    assert len(read(path, "csv")[0].values["text"]) == 200_000


def test_parquet_and_arrow(in_tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import feather, parquet

    table = pa.table({"text": ["a", None], "n": [1, 2]})
    parquet.write_table(table, "data.parquet")
    feather.write_feather(table, "file.arrow", compression="uncompressed")
    with pa.OSFile("stream.arrow", "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    for name in ("data.parquet", "file.arrow", "stream.arrow"):
        assert read(in_tmp_path / name, Path(name).suffix[1:]) == [
            SourceRow({"text": "a", "n": 1}, f"{name} row 1"),
            SourceRow({"text": None, "n": 2}, f"{name} row 2"),
        ]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_broken_binary_file(in_tmp_path: Path, kind: str) -> None:
    path = in_tmp_path / f"data.{kind}"
    path.write_bytes(b"not at all")
    with pytest.raises(DataError, match=rf"data.{kind} cannot be read as {kind.capitalize()}: "):
        read(path, kind)


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_half_a_character_is_named_and_a_whole_one_is_not(in_tmp_path: Path, kind: str) -> None:
    rows = [r'{"a": "\ud83d\ude00 whole"}', r'{"a": ["cut \ud83d"]}', r'{"a": "C:\\users\\udata"}']
    path = in_tmp_path / f"rows.{kind}"
    path.write_text("\n".join(rows) if kind == "jsonl" else "[" + ",\n".join(rows) + "]")
    whole, cut, escaped = read_file(path, kind)
    assert (whole.problem, whole.values) == (None, {"a": "\U0001f600 whole"})
    assert (escaped.problem, escaped.values) == (None, {"a": r"C:\users\udata"})
    assert cut.place == f"rows.{kind}:2"
    assert cut.problem == r"not usable text: \ud83d is one half of a character, and the other half is missing"


def _one_column(value: Any, type: Any) -> Any:
    import pyarrow as pa

    if isinstance(value, bytes):
        offsets = pa.py_buffer(len(value).to_bytes(4, "little").rjust(8, b"\0"))
        return pa.Array.from_buffers(type, 1, [None, offsets, pa.py_buffer(value)])
    return pa.array([value], type=type)


def test_values_of_a_table_that_nobody_can_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    monkeypatch.chdir(tmp_path)
    for value, type, reason in (
        (b"\xff\xfe", pa.string(), "field 't' (string) cannot be read: 'utf-8' codec can't decode byte 0xff"),
        (2**60, pa.timestamp("us"), "field 't' (timestamp[us]) cannot be read: date value out of range"),
        (1, pa.timestamp("us", tz="Not/AZone"), "field 't' (timestamp[us, tz=Not/AZone]) cannot be read: "),
    ):
        good = pa.record_batch([pa.nulls(1, type)], names=["t"])
        bad = pa.record_batch([_one_column(value, type)], names=["t"])
        with pa.OSFile("rows.arrow", "wb") as sink, pa.ipc.new_stream(sink, good.schema) as writer:
            writer.write_batch(good)
            writer.write_batch(bad)
        first, second = read_file(Path("rows.arrow"), "arrow")
        assert first.values == {"t": None}
        assert (second.place, second.values) == ("rows.arrow row 2", {})
        assert str(second.problem).startswith(reason)
        assert second.help


def test_two_columns_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    monkeypatch.chdir(tmp_path)
    parquet.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["x", "x"]), "rows.parquet")
    with pytest.raises(DataError, match="column 'x' occurs twice"):
        list(read_file(Path("rows.parquet"), "parquet"))
