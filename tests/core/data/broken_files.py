"""Broken data of every kind that we know of, by name: what it is made of and how it is read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

GOOD: dict[str, list[dict[str, Any]]] = {
    "alpaca": [{"instruction": f"Say number {n}.", "input": "", "output": f"number {n}"} for n in range(6)],
    "completion": [{"text": f"text {n}"} for n in range(6)],
    "chat_template": [
        {"messages": [{"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": f"{n}"}]}
        for n in range(6)
    ],
    "input_output": [{"segments": [{"label": True, "text": f"number {n}<|im_end|>"}]} for n in range(6)],
    "pretokenised": [{"input_ids": [5, 6, 7 + n]} for n in range(6)],
}
Made = Callable[[Path], None]


@dataclass(frozen=True)
class Broken:
    """One broken source. files: their content by name, or a function that makes them in the folder it is given.

    path: what the recipe names; type and options: how it is read.
    """

    files: Mapping[str, bytes] | Made
    path: str
    type: str = "alpaca"
    options: Mapping[str, Any] = field(default_factory=dict)


def lines(*rows: Any, type: str = "alpaca") -> bytes:
    """Six good rows as JSON lines, then `rows`: text as it is, anything else as JSON."""
    texts = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in [*GOOD[type], *rows]]
    return "".join(f"{text}\n" for text in texts).encode()


def seventh(row: Any, type: str = "alpaca", **options: Any) -> Broken:
    """A file of JSON lines whose seventh is `row`."""
    return Broken({"data.jsonl": lines(row, type=type)}, "data.jsonl", type, options)


def only(content: bytes | str, name: str = "data.jsonl", type: str = "alpaca", **options: Any) -> Broken:
    """One file of this content."""
    return Broken({name: content.encode() if isinstance(content, str) else content}, name, type, options)


def chat(*messages: Any, **options: Any) -> Broken:
    """A file of chats whose seventh has these messages."""
    return seventh({"messages": list(messages)}, "chat_template", **options)


def chat_text(text: str) -> Broken:
    """A file of chats whose seventh row is this text."""
    return seventh(text, "chat_template")


def table(kind: str, columns: Mapping[str, Any]) -> bytes:
    """A Parquet or Arrow file of these columns."""
    import pyarrow as pa
    from pyarrow import parquet

    made, sink = pa.table(columns), io.BytesIO()
    if kind == "parquet":
        parquet.write_table(made, sink)
    else:
        with pa.ipc.new_stream(sink, made.schema) as writer:
            writer.write_table(made)
    return sink.getvalue()


def archive() -> bytes:
    """A zip archive, which is also what a spreadsheet is."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as packed:
        packed.writestr("sheet1.xml", "<sheet/>")
    return sink.getvalue()


def folder(*names: str) -> Made:
    """Makes folders (names that end in `/`) and empty files."""

    def make(where: Path) -> None:
        for name in names:
            (where / name).mkdir(parents=True) if name.endswith("/") else (where / name).write_text("")

    return make


def _links(where: Path) -> None:
    (where / "gone.jsonl").symlink_to(where / "nowhere.jsonl")
    (where / "loop.jsonl").symlink_to(where / "loop.jsonl")


def _folder_in_itself(where: Path) -> None:
    (where / "set").mkdir()
    (where / "set" / "again").symlink_to(where / "set")


def _twins() -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    made, sink = pa.table([["a"], ["b"]], names=["output", "output"]), io.BytesIO()
    parquet.write_table(made, sink)
    return sink.getvalue()


def _overwritten() -> bytes:
    whole = table("parquet", {"instruction": ["a"] * 500, "output": [f"c{n}" * 20 for n in range(500)]})
    return whole[:200] + b"\xff" * 200 + whole[400:]


USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
ROWS = lines()
ARRAY = json.dumps(GOOD["alpaca"], indent=1)
COLUMNS = {"instruction": ["a", "b"], "output": ["c", "d"]}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
PAGE = "<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>\n"
DEEP = '{"instruction": ' + "[" * 100_000 + "]" * 100_000 + "}"
CALL = {"name": "add", "arguments": {"a": 1}}
TOOLED = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
)
FLAGS = {"message_field_training": "train", "message_field_training_detail": "parts"}

BROKEN: dict[str, Broken] = {
    # ------------------------------------------------ JSON lines
    "missing comma": seventh('{"instruction": "a" "output": "b"}'),
    "cut off in the middle": seventh('{"instruction": "a", "outp'),
    "single quotes": seventh("{'instruction': 'a', 'output': 'b'}"),
    "trailing comma": seventh('{"instruction": "a", "output": "b",}'),
    "trailing comma after the row": seventh('{"instruction": "a", "output": "b"},'),
    "two rows on one line": seventh('{"instruction": "a", "output": "b"} {"instruction": "c", "output": "d"}'),
    "unescaped line break": seventh('{"instruction": "a\nb", "output": "c"}'),
    "bad escape": seventh(r'{"instruction": "C:\data", "output": "b"}'),
    "unescaped tab": seventh('{"instruction": "a\tb", "output": "c"}'),
    "comment": seventh("// the end"),
    "a key twice": seventh('{"instruction": "a", "output": "b", "output": "c"}'),
    "a key twice further in": chat_text('{"messages": [{"role": "user", "content": "a", "content": "b"}]}'),
    "a key twice in an array": only(
        '[{"instruction": "a", "output": "b"},\n{"output": "c", "output": "d"}]', "data.json"
    ),
    "row is a list": seventh(["a", "b"]),
    "row is text": seventh('"a"'),
    "row is a number": seventh("42"),
    "row is null": seventh("null"),
    "row is true": seventh("true"),
    "python values": seventh('{"instruction": "a", "output": None}'),
    "not a number": seventh('{"instruction": NaN, "output": "b"}'),
    "a number of many digits": seventh('{"instruction": ' + "1" * 5000 + ', "output": "b"}'),
    "nested too deeply": seventh(DEEP),
    "half a character": seventh(r'{"instruction": "a \ud83d", "output": "b"}'),
    "a byte order mark in the middle": seventh('\ufeff{"instruction": "a", "output": "b"}'),
    "a NUL byte in a row": seventh('{"instruction": "a\0b", "output": "c"}'),
    "an array over the lines": only("[\n" + ",\n".join(map(json.dumps, GOOD["alpaca"])) + "\n]\n"),
    "lines that end in returns alone": only(ROWS.replace(b"\n", b"\r")),
    "Shift JIS": only('{"instruction": "日本語で質問してください", "output": "b"}\n'.encode("shift_jis")),
    "an enormous line that is cut off": seventh('{"instruction": "' + "very long " * 300_000),
    "an array in a file of lines": only(json.dumps(GOOD["alpaca"])),
    "objects over several lines": only(json.dumps(GOOD["alpaca"][0], indent=2)),
    "a table named jsonl": only("instruction,output\na,b\n"),
    "a page of the web named jsonl": only(PAGE),
    "a pointer to the data": only(POINTER),
    "empty file": only(""),
    "blank lines alone": only("\n\n  \n"),
    "a byte order mark alone": only(b"\xef\xbb\xbf"),
    "NUL bytes alone": only(b"\0" * 5000),
    "Latin-1": only('{"instruction": "Grüße", "output": "b"}\n'.encode("latin-1")),
    "Windows-1252 at line 7": only(ROWS + '{"instruction": "a – b", "output": "c"}\n'.encode("cp1252")),
    "UTF-16": only(ROWS.decode().encode("utf-16")),
    "UTF-16 without a mark": only(ROWS.decode().encode("utf-16-le")),
    "UTF-32": only(ROWS.decode().encode("utf-32")),
    "cut in a character": only(lines('{"instruction": "Köln').rstrip()[:-2]),
    # ------------------------------------------------ other kinds of file
    "a gzip file named jsonl": only(gzip.compress(ROWS)),
    "a picture named jsonl": only(b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
    "a Parquet file named jsonl": only(table("parquet", COLUMNS)),
    "a spreadsheet named csv": only(archive(), "data.csv"),
    "a database named json": only(b"SQLite format 3\0" + bytes(100), "data.json"),
    "a document named txt": only(b"%PDF-1.7\n", "data.txt", "completion"),
    "a pickle named jsonl": only(pickle.dumps(GOOD["alpaca"], protocol=4)),
    "random bytes named jsonl": only(bytes((n * 97 + 131) % 256 for n in range(4000))),
    # ------------------------------------------------ JSON
    "rows under a key": only(json.dumps({"version": 1, "data": GOOD["alpaca"]}, indent=1), "data.json"),
    "rows as columns": only(json.dumps({"instruction": ["a"], "output": ["b"]}, indent=1), "data.json"),
    "an array that is cut off": only(ARRAY[: len(ARRAY) // 2], "data.json"),
    "an array without its end": only(ARRAY.rstrip("]\n "), "data.json"),
    "a missing comma in an array": only(ARRAY.replace("},", "}", 1), "data.json"),
    "a trailing comma in an array": only(ARRAY.rstrip("]\n ") + ",\n]", "data.json"),
    "an array in UTF-16": only(json.dumps(GOOD["alpaca"]).encode("utf-16"), "data.json"),
    "an array as Python shows it": only(str(GOOD["alpaca"]), "data.json"),
    "YAML named json": only("- instruction: a\n  output: b\n", "data.json"),
    "XML named json": only('<?xml version="1.0"?><rows/>', "data.json"),
    "a list in an array": only('[{"instruction": "a", "output": "b"},\n["c"]]', "data.json"),
    "text after an array": only(ARRAY + "\n[]", "data.json"),
    "an empty array": only("[]", "data.json"),
    "an empty object": only("{}", "data.json"),
    "a number alone": only("42", "data.json"),
    # ------------------------------------------------ tables
    "a short row": only("instruction,output\na,b\nc\n", "data.csv"),
    "a long row": only("instruction,output\na,b\nc,d,e\n", "data.csv"),
    "a column twice": only("instruction,output,output\na,b,c\n", "data.csv"),
    "short and long rows": only("instruction,output\na,b\nc\nd,e,f\ng,h\n", "data.csv"),
    "spaces around the names of columns": only("instruction , output\na,b\n", "data.csv"),
    "a table in UTF-16": only("instruction,output\na,b\n".encode("utf-16"), "data.csv"),
    "a long row of tabs": only("instruction\toutput\na\tb\tc\n", "data.tsv"),
    "a column without a name": only(",instruction,output\n0,a,b\n", "data.csv"),
    "a header alone": only("instruction,output\n", "data.csv"),
    "an empty table": only("", "data.csv"),
    "a quote that nobody closes": only('instruction,output\na,b\nc,"d\ne,f\n', "data.csv"),
    "text after a quote": only('instruction,output\na,"b"c\n', "data.csv"),
    "another delimiter": only("instruction;output\na;b\n", "data.csv"),
    "commas in a file of tabs": only("instruction,output\na,b\n", "data.tsv"),
    "a NUL character in a table": only("instruction,output\na,b\nc,d\0e\n", "data.csv"),
    "a Latin-1 table": only("instruction,output\na,b\nc,Grüße\n".encode("latin-1"), "data.csv"),
    "an empty field in a table": only("instruction,output\na,b\nc,\n", "data.csv"),
    "a NUL character in a text": only("one\ntwo\0\n", "data.txt", "completion"),
    # ------------------------------------------------ Parquet and Arrow
    "a Parquet file of other columns": only(table("parquet", {"q": ["a"], "label": [1]}), "data.parquet"),
    "a Parquet file that is cut off": only(table("parquet", COLUMNS)[:-20], "data.parquet"),
    "a Parquet file with a column twice": only(_twins(), "data.parquet"),
    "a Parquet file that was overwritten in the middle": only(_overwritten(), "data.parquet"),
    "bytes in a Parquet file": only(table("parquet", {"instruction": [b"\xff"], "output": ["b"]}), "data.parquet"),
    "days in a Parquet file": only(
        table("parquet", {"instruction": ["a"], "output": [date(2026, 1, 2)]}), "data.parquet"
    ),
    "rows named parquet": only(ROWS, "data.parquet"),
    "an empty Parquet file": only(b"", "data.parquet"),
    "a Parquet file without rows": only(table("parquet", {"instruction": [], "output": []}), "data.parquet"),
    "null in a Parquet file": only(table("parquet", {**COLUMNS, "output": ["c", None]}), "data.parquet"),
    "lists in a Parquet file": only(table("parquet", {**COLUMNS, "output": [["c"], ["d"]]}), "data.parquet"),
    "an Arrow file that is cut off": only(table("arrow", COLUMNS)[:300], "data.arrow"),
    "rows named arrow": only(ROWS, "data.arrow"),
    "a compressed Parquet file": only(gzip.compress(table("parquet", COLUMNS)), "data.parquet.gz"),
    # ------------------------------------------------ compressed files
    "a gzip file that is cut off": only(gzip.compress(ROWS * 50, mtime=0)[:-30], "data.jsonl.gz"),
    "rows named gz": only(ROWS, "data.jsonl.gz"),
    "a gzip file with a wrong checksum": only(gzip.compress(ROWS, mtime=0)[:-8] + bytes(8), "data.jsonl.gz"),
    "a bad row in a gzip file": only(gzip.compress(lines("broken"), mtime=0), "data.jsonl.gz"),
    "an empty gzip file": only(b"", "data.jsonl.gz"),
    "a bzip2 file that is cut off": only(bz2.compress(ROWS)[:-10], "data.jsonl.bz2"),
    "a gzip file of nothing": only(gzip.compress(b"", mtime=0), "data.jsonl.gz"),
    "a gzip file in a gzip file": only(gzip.compress(gzip.compress(ROWS, mtime=0), mtime=0), "data.jsonl.gz"),
    "an archive named gz": only(archive(), "data.jsonl.gz"),
    "an ending that says only the compression": only(gzip.compress(ROWS, mtime=0), "data.tar.gz"),
    "rows named xz": only(ROWS, "data.jsonl.xz"),
    "an xz file that is cut off": only(lzma.compress(ROWS)[:-20], "data.jsonl.xz"),
    "rows named zst": only(ROWS, "data.jsonl.zst"),
    "a Zstandard file of nothing": only(b"", "data.jsonl.zst"),
    "a Zstandard file that is cut off": Broken(lambda where: _cut_zstd(where), "data.jsonl.zst"),
    # ------------------------------------------------ fields
    "a missing field": seventh({"instruction": "a", "input": ""}),
    "a field that no row has": only("".join(f'{{"question": "{n}", "answer": "b"}}\n' for n in range(6))),
    "a field that most rows lack": only(lines(*[{"instruction": "a", "response": "b"}] * 9)),
    "null": seventh({"instruction": "a", "output": None}),
    "a number": seventh({"instruction": "a", "output": 42}),
    "true": seventh({"instruction": "a", "output": True}),
    "a list": seventh({"instruction": "a", "output": ["b"]}),
    "an object": seventh({"instruction": "a", "output": {"text": "b"}}),
    "an empty answer": seventh({"instruction": "a", "output": ""}),
    "an answer of spaces": seventh({"instruction": "a", "output": " \n "}),
    "an empty instruction": seventh({"instruction": "", "output": "b"}),
    "an input that is a list": seventh({"instruction": "a", "input": ["c"], "output": "b"}),
    "rows of two schemas": only(lines(*GOOD["chat_template"])),
    "an empty row": seventh({}),
    "many bad rows": only(lines(*["broken"] * 25)),
    # ------------------------------------------------ chats
    "no messages": chat(),
    "messages that are null": seventh({"messages": None}, "chat_template"),
    "messages that are text": seventh({"messages": "Hi"}, "chat_template"),
    "messages in a list of their own": chat([USER, ANSWER]),
    "messages by their properties": seventh({"messages": {"role": ["user"], "content": ["Hi"]}}, "chat_template"),
    "messages as JSON text": seventh({"messages": json.dumps([USER, ANSWER])}, "chat_template"),
    "a message that is null": chat(None, ANSWER),
    "a message that is text": chat("Hi", "Hello"),
    "a message without a role": chat({"content": "Hi"}, ANSWER),
    "a message without a content": chat(USER, {"role": "assistant"}),
    "an unknown role": chat(USER, {"role": "bot", "content": "Hello"}),
    "a role that is null": chat(USER, {"role": None, "content": "Hello"}),
    "a role that is a list": chat(USER, {"role": ["assistant"], "content": "Hello"}),
    "a content that is null": chat(USER, {"role": "assistant", "content": None}),
    "a content that is a number": chat(USER, {"role": "assistant", "content": 42}),
    "a content of bare texts": chat(USER, {"role": "assistant", "content": ["a", "b"]}),
    "a picture in a chat": chat({"role": "user", "content": [{"type": "image_url", "image_url": "a.png"}]}, ANSWER),
    "an empty answer in a chat": chat(USER, {"role": "assistant", "content": "  "}),
    "two user turns": chat(USER, USER, ANSWER, chat_template="mistral_v1"),
    "an answer first": chat(ANSWER, USER, ANSWER, chat_template="mistral_v1"),
    "a system message that is refused": chat({"role": "system", "content": "x"}, USER, ANSWER, chat_template="gemma"),
    "a tool message that the template leaves out": chat(USER, {"role": "tool", "content": "1"}, chat_template="phi_3"),
    "a system text that is no text": seventh({"system": 3, "messages": [USER, ANSWER]}, "chat_template"),
    "ShareGPT without its options": only(
        '{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}\n' * 6,
        type="chat_template",
    ),
    "calls that are no list": chat(USER, {"role": "assistant", "tool_calls": "add"}, chat_template_jinja=TOOLED),
    "a call without a name": chat(
        USER, {"role": "assistant", "tool_calls": [{"arguments": {}}]}, chat_template_jinja=TOOLED
    ),
    "arguments that are no JSON": chat(
        USER, {"role": "assistant", "tool_calls": [{"name": "add", "arguments": "{a: 1}"}]}, chat_template_jinja=TOOLED
    ),
    "calls that the template leaves out": chat(USER, {"role": "assistant", "tool_calls": [CALL]}),
    "a tool that is no object": seventh({"messages": [USER, ANSWER], "tools": [1]}, "chat_template"),
    "tools that are no JSON": seventh({"messages": [USER, ANSWER], "tools": "[add]"}, "chat_template"),
    "tools that are no list": seventh({"messages": [USER, ANSWER], "tools": {"name": "add"}}, "chat_template"),
    "a flag that is text": chat(USER, {**ANSWER, "train": "yes"}, **FLAGS),
    "a range beyond the content": chat(
        USER, {**ANSWER, "parts": [{"begin_offset": 0, "end_offset": 99, "train": True}]}, **FLAGS
    ),
    "thinking that is no text": chat(USER, {**ANSWER, "why": 3}, field_thinking="why"),
    # ------------------------------------------------ segments and tokens
    "segments that are text": seventh({"segments": "a"}, "input_output"),
    "a segment without a label": seventh({"segments": [{"text": "a"}]}, "input_output"),
    "a label that is a number": seventh({"segments": [{"label": 1, "text": "a"}]}, "input_output"),
    "labels of another length": seventh({"input_ids": [5, 6], "labels": [5]}, "pretokenised"),
    "a token of another vocabulary": seventh({"input_ids": [5, 999_999]}, "pretokenised"),
    "tokens that are text": seventh({"input_ids": ["a", "b"]}, "pretokenised"),
    "no tokens": seventh({"input_ids": []}, "pretokenised"),
    "a token below zero": seventh({"input_ids": [5, -1]}, "pretokenised"),
    "a label that is another token": seventh({"input_ids": [5, 6], "labels": [5, 7]}, "pretokenised"),
    "an empty text": seventh({"text": ""}, "completion"),
    # ------------------------------------------------ places
    "no such file": Broken({"train.jsonl": ROWS}, "trian.jsonl"),
    "no such folder": Broken({}, "data/train.jsonl"),
    "an empty folder": Broken(folder("set/"), "set"),
    "a folder without data": Broken({"README.md": b"#", "run.py": b""}, "."),
    "a folder of hidden files": Broken({".train.jsonl": ROWS, "._train.jsonl": b"\0\5\x16\7"}, "."),
    "a folder of other kinds than ds_type": Broken({"a.jsonl": ROWS}, ".", options={"ds_type": "csv"}),
    "a folder in itself": Broken(_folder_in_itself, "set"),
    "a pattern as a path": Broken({"a.jsonl": ROWS}, "*.jsonl"),
    "a folder of texts": Broken({"a.txt": b"one\n"}, "."),
    "a folder named jsonl": Broken(folder("data.jsonl/"), "data.jsonl"),
    "a link to nowhere": Broken(_links, "gone.jsonl"),
    "a link to itself": Broken(_links, "loop.jsonl"),
    "an ending that says nothing": only(ROWS, "data.dat"),
    "no ending": only(ROWS, "data"),
    "a file that data_files does not find": Broken({"a.jsonl": ROWS}, ".", options={"data_files": "b*.jsonl"}),
    "one of several data_files": Broken({"a.jsonl": ROWS}, ".", options={"data_files": ["a.jsonl", "c.jsonl"]}),
    "a saved data set that is broken": Broken({"state.json": b"{}"}, "."),
    "a split that is not there": Broken({"train.jsonl": ROWS, "test.jsonl": ROWS}, ".", options={"split": "dev"}),
    "a split of one file": only(ROWS, split="validation"),
    "a split that nobody can read": only(ROWS, split="train[20%"),
    "a split of words": only(ROWS, split="train[first:last]"),
    "a split beyond the end": only(ROWS, split="train[:99]"),
    "a split that ends before it begins": only(ROWS, split="train[5:2]"),
    "a split of nothing": only(ROWS, split="train[:1%]"),
    "a part that is not there": only(ROWS, shards=3, shards_idx=3),
    "one bad file of several": Broken({"a.jsonl": ROWS, "b.jsonl": lines("broken")}, "."),
}


def _cut_zstd(where: Path) -> None:
    import zstandard

    (where / "data.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(ROWS)[:-10])
