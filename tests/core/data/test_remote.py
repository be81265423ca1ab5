"""Data elsewhere: a real web server on this machine. Object stores: test_stores.py."""

from __future__ import annotations

import gzip
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.cli import main
from core.data import read_rows
from core.data.remote import contents
from core.data.sources import contents_elsewhere, shown
from core.errors import DataError
from tests.core.data.making import dataset, plan_of

LINES = b"".join(b'{"n": %d}\n' % n for n in range(50))
SECRET = "hunter2"


def numbers(path: str, **options: Any) -> list[int]:
    return [int(row.values["n"]) for row in read_rows(dataset(path, **options))]


def refusal(path: str, **options: Any) -> DataError:
    with pytest.raises(DataError) as error:
        list(read_rows(dataset(path, **options)))
    return error.value


def parquet(count: int) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(pa.table({"n": list(range(count))}), sink)
    return sink.getvalue()


def arrow(count: int) -> bytes:
    import pyarrow as pa

    table = pa.table({"n": list(range(count))})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


FILES = {
    "train.jsonl": LINES,
    "data.json": b"[" + b",".join(LINES.splitlines()) + b"]",
    "data.csv": b"n\n" + b"".join(b"%d\n" % n for n in range(50)),
    "data.tsv": b"n\tm\n" + b"".join(b"%d\tx\n" % n for n in range(50)),
    "data.jsonl.gz": gzip.compress(LINES),
}
KINDS = [*FILES, "data.parquet", "data.arrow"]


def content(name: str) -> bytes:
    return {"data.parquet": parquet, "data.arrow": arrow}[name](50) if name not in FILES else FILES[name]


# ---------------------------------------------------------------- a web server


class Handler(BaseHTTPRequestHandler):
    """Serves FILES; /cut/… ends early, /away/… sends on to http elsewhere, /moved/… to a file here."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].lstrip("/")
        folder, _, name = path.rpartition("/")
        if folder in ("away", "moved"):
            self.send_response(302)
            self.send_header("Location", f"http://example.org/{name}" if folder == "away" else f"/{name}")
            self.end_headers()
            return
        if name not in KINDS:
            self.send_error(404)
            return
        body = content(name)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if folder != "unsaid":
            self.send_header("ETag", f'"{len(body)}"')
        self.end_headers()
        self.wfile.write(body[:200] if folder == "cut" else body)

    def log_message(self, *args: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_from_a_web_server(web: str, name: str) -> None:
    assert numbers(f"{web}/{name}") == list(range(50))
    assert numbers(f"{web}/{name}", split="train[:20%]") == list(range(10))
    assert numbers(f"{web}/{name}", split="train[-3:]") == [47, 48, 49]
    assert numbers(f"{web}/{name}", split="train[4:6]") == [4, 5]


def test_places_and_names_hide_what_follows_the_question_mark(web: str) -> None:
    address = f"{web}/train.jsonl?token={SECRET}&part=1"
    (row, *_) = read_rows(dataset(address))
    assert row.place == f"{web}/train.jsonl:1"
    assert shown(address) == f"{web}/train.jsonl?token=***&part=***"
    error = refusal(f"{web}/no.jsonl?token={SECRET}")
    assert error.message == f"'{web}/no.jsonl?token=***' cannot be fetched: 404 Not Found"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"https://jane:{SECRET}@127.0.0.1/a.jsonl", "'https://***@127.0.0.1/a.jsonl' holds a user name or a password"),
        ("http://data.example.org/a.jsonl", "'http://data.example.org/a.jsonl' is not secure: http is refused"),
        ("ftp://data.example.org/a.jsonl", "'ftp://data.example.org/a.jsonl': ftp:// is no address that data are read"),
        ("s3://", "'s3://' names no server or bucket"),
    ],
)
def test_addresses_that_are_refused(address: str, message: str) -> None:
    error = refusal(address)
    assert error.message.startswith(message)
    assert error.help
    assert SECRET not in error.message + error.help


def test_a_connection_that_ends_early_is_no_shorter_file(web: str) -> None:
    error = refusal(f"{web}/cut/train.jsonl")
    assert error.message == f"'{web}/cut/train.jsonl': the connection ended after 200 of {len(LINES)} bytes"


def test_a_server_that_sends_on(web: str) -> None:
    assert numbers(f"{web}/moved/train.jsonl") == list(range(50))
    error = refusal(f"{web}/away/train.jsonl")
    assert "the server sends on to http://example.org/train.jsonl, which is not https" in error.message


def test_no_server_there() -> None:
    error = refusal("http://127.0.0.1:9/train.jsonl")
    assert error.message.startswith("'http://127.0.0.1:9/train.jsonl' cannot be read: ")
    assert error.help == "check the address and the network"


def test_what_tells_contents_apart(web: str) -> None:
    def any_name(name: str) -> bool:
        return True

    (said,) = contents(f"{web}/train.jsonl", any_name).values()
    assert said == f'"{len(LINES)}" None {len(LINES)}'
    assert contents(f"{web}/unsaid/train.jsonl", any_name) == {f"{web}/unsaid/train.jsonl": None}


def test_addresses_in_data_files(web: str) -> None:
    assert numbers("json", data_files=[f"{web}/train.jsonl", f"{web}/data.json"], ds_type="json") == [*range(50)] * 2
    assert numbers(web, data_files="train.jsonl") == list(range(50))


# ---------------------------------------------------------------- what check says


@pytest.mark.parametrize(
    ("address", "package", "extra"),
    [
        ("s3://rows/a.jsonl", "s3fs", "s3"),
        ("gs://rows/a.jsonl", "gcsfs", "gcs"),
        ("az://rows/a.jsonl", "adlfs", "azure"),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, address: str, package: str, extra: str
) -> None:
    from core.data import addresses

    monkeypatch.setattr(addresses, "find_spec", lambda name: None)
    error = refusal(address)
    assert error.message == f"'{address}' needs the package {package}, which is not installed"
    assert error.help == f'install it: pip install "tunesmith[{extra}]"'


def test_the_content_of_a_data_set_elsewhere(web: str) -> None:
    assert contents_elsewhere(f"{web}/train.jsonl", {}) == contents_elsewhere(
        "json", {"data_files": [f"{web}/train.jsonl"]}
    )
    assert contents_elsewhere("json", {"data_files": [f"{web}/train.jsonl", "here.jsonl"]}) == {
        f"{web}/train.jsonl": None
    }
    assert contents_elsewhere("here.jsonl", {}) is None


def test_what_is_kept_of_prepared_data_holds_no_token(web: str, tokenizer: Any, tmp_path: Path) -> None:
    from core.data.cache import key_inputs, key_of

    def inputs(token: str) -> Any:
        return key_inputs(plan_of(tmp_path, dataset(f"{web}/train.jsonl?token={token}")), tokenizer)

    assert SECRET not in repr(inputs(SECRET))
    assert key_of(inputs(SECRET)) == key_of(inputs(SECRET))
    assert key_of(inputs(SECRET)) != key_of(inputs("another"))


def test_a_proposal_for_an_address(web: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", f"{web}/train.jsonl?token={SECRET}"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{web}/train.jsonl?token=***: 50 rows\n  n  the number 0\n")
    assert "the secrets of the address are masked here" in out
    assert SECRET not in out
    assert main(["data", f"{web}/no.jsonl"]) == 2
    assert "cannot be fetched: 404 Not Found" in capsys.readouterr().err
