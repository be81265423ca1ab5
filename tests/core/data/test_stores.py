"""Object stores: real servers of S3, Google Cloud Storage and Azure on this machine, where they are installed.

S3: `pip install "tunesmith[s3]" "moto[s3]" flask flask-cors`. Google: `"tunesmith[gcs]" gcp-storage-emulator`.
Azure: `pip install "tunesmith[azure]"` and `npm install azurite`, with `TUNESMITH_AZURITE` set to its program
`node_modules/.bin/azurite-blob`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.data import read_rows
from core.data.remote import contents
from core.data.sources import contents_elsewhere
from tests.core.data.making import dataset
from tests.core.data.test_remote import KINDS, SECRET, content, numbers, refusal

# what every copy of azurite lets in, by its documentation
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Bucket:
    """address: of a bucket called `rows`. put(key, content) writes a file there."""

    address: str
    put: Callable[[str, bytes], Any]


@contextmanager
def s3(patch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    pytest.importorskip("flask", reason="the S3 server needs flask")
    server_of = pytest.importorskip("moto.server", reason="moto, which has an S3 server, is not installed")
    import boto3

    server = server_of.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="rows")
    yield Bucket("s3://rows", lambda key, content: client.put_object(Bucket="rows", Key=key, Body=content))
    server.stop()


@contextmanager
def google(patch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    # read when it is imported: no other protocol is tried first, which the emulator does not speak
    patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    gcsfs = pytest.importorskip("gcsfs", reason="the extra gcs is not installed")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is not installed")
    # by itself it serves one connection at a time, and clients keep theirs
    patch.setattr(emulator.server, "HTTPServer", ThreadingHTTPServer)
    server = emulator.create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server._api._httpd.server_port}")
    files = gcsfs.GCSFileSystem(token="anon")
    files.mkdir("rows")
    yield Bucket("gs://rows", lambda key, content: files.pipe_file(f"rows/{key}", content))
    server.stop()


@contextmanager
def azure(patch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    pytest.importorskip("adlfs", reason="the extra azure is not installed")
    program = os.environ.get("TUNESMITH_AZURITE") or shutil.which("azurite-blob")
    if not program:
        pytest.skip("azurite is not installed; TUNESMITH_AZURITE names its azurite-blob")
    from azure.storage.blob import BlobServiceClient

    flags = ["--inMemoryPersistence", "--blobPort", "0", "--skipApiVersionCheck", "--disableTelemetry"]
    server = subprocess.Popen([program, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    try:
        found = next(filter(None, (re.search(r"listens on (http://\S+)", line) for line in server.stdout)), None)
        assert found, "azurite did not start"
        endpoint = f"BlobEndpoint={found[1]}/{AZURE_ACCOUNT}"
        connection = f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};{endpoint};"
        patch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
        container = BlobServiceClient.from_connection_string(connection).create_container("rows")
        yield Bucket("az://rows", lambda key, content: container.upload_blob(key, content, overwrite=True))
    finally:
        server.terminate()
        server.communicate()


@pytest.fixture(scope="module", params=[s3, google, azure], ids=["s3", "gs", "az"])
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patch, request.param(patch) as made:
        yield made


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_from_a_store(bucket: Bucket, name: str) -> None:
    bucket.put(f"kinds/{name}", content(name))
    address = f"{bucket.address}/kinds/{name}"
    assert numbers(address) == list(range(50))
    assert numbers(address, split="train[:20%]") == list(range(10))
    assert next(iter(read_rows(dataset(address)))).place.startswith(address)


def test_a_folder_and_a_pattern_of_a_store(bucket: Bucket) -> None:
    bucket.put("set/train-1.jsonl", b'{"n": 1}\n')
    bucket.put("set/train-2.jsonl", b'{"n": 2}\n')
    bucket.put("set/test.jsonl", b'{"n": 3}\n')
    bucket.put("set/README.md", b"not data")
    assert numbers(f"{bucket.address}/set") == [1, 2]
    assert numbers(f"{bucket.address}/set/", split="test") == [3]
    assert numbers(f"{bucket.address}/set/train-*.jsonl") == [1, 2]
    assert numbers(f"{bucket.address}/set", data_files=["test.jsonl", "train-1.jsonl"]) == [3, 1]


def test_a_saved_data_set_of_a_store(bucket: Bucket, tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_list([{"n": 1}, {"n": 2}]).save_to_disk(str(tmp_path / "set"))
    for file in (tmp_path / "set").iterdir():
        bucket.put(f"saved/{file.name}", file.read_bytes())
    assert numbers(f"{bucket.address}/saved") == [1, 2]


def test_what_is_not_in_a_store(bucket: Bucket) -> None:
    missing = f"{bucket.address}/none.jsonl"
    assert refusal(missing).message == f"no data at '{missing}'"
    elsewhere = bucket.address.replace("rows", "no-such-bucket") + "/none.jsonl"
    assert refusal(elsewhere).message.startswith(f"no data at '{elsewhere}'")


def test_a_file_of_a_store_that_changes_tells_so(bucket: Bucket) -> None:
    def any_name(name: str) -> bool:
        return True

    folder = f"{bucket.address}/changing"
    bucket.put("changing/a.jsonl", b'{"n": 1}\n')
    before = contents(folder, any_name)
    assert before == contents(folder, any_name)
    bucket.put("changing/a.jsonl", b'{"n": 2}\n')
    assert before.keys() == contents(folder, any_name).keys()
    assert before != contents(folder, any_name)
    assert numbers(f"{folder}/a.jsonl") == [2]


def test_the_content_of_a_data_set_in_a_store(bucket: Bucket) -> None:
    bucket.put("told/a.jsonl", b'{"n": 1}\n')
    bucket.put("told/README.md", b"not data")
    found = contents_elsewhere(f"{bucket.address}/told", {})
    assert found is not None
    assert list(found) == [f"{bucket.address}/told/a.jsonl"]
