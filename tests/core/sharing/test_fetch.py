"""Bases from servers: a real TLS server on this machine, and a stand-in for the hub that its own client talks to."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import resource
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.check import check_recipe
from core.diagnostics import render_problems
from core.errors import RecipeError
from core.host import load_host
from core.recipe import Recipe, load_recipe
from core.sharing import fetch
from core.sharing.files import MAX_BYTES

BASE = b"seed: 7\nlora_r: 4\n"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(http.server.ThreadingHTTPServer):
    """Serves `pages`; counts requests by path."""

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.pages: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, or refuses the certificate, is part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[self.path])
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(10 * MAX_BYTES // 65_536):
                self.wfile.write(b"#" * 65_536)
        elif self.path == "/large":
            self.send_response(200)
            self.send_header("Content-Length", "200000000")
            self.end_headers()
        elif self.path in self.server.pages:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.pages[self.path])))
            self.end_headers()
            self.wfile.write(self.server.pages[self.path])
        else:
            self.send_error(404)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    key, file = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(file)),
        ],
        check=True,
        capture_output=True,
    )
    return key, file


@pytest.fixture
def server(certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A TLS server that this process trusts, with the working folder and the cache in a fresh place."""
    key, file = certificate
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    server = Server(Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def url(server: Server, path: str) -> str:
    return f"https://localhost:{server.server_port}{path}"


def recipe(address: str, content: bytes = BASE) -> Path:
    digest = hashlib.sha256(content).hexdigest()
    path = Path("recipe.yml")
    path.write_text(f"lora_r: 2\nextends:\n  - url: {address}\n    sha256: {digest}\n")
    return path


def refused(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    return render_problems(caught.value.problems, caught.value.recipe or Recipe(path, "", {}), colour=False)


def test_a_base_is_fetched_once_and_kept(server: Server) -> None:
    server.pages["/base.yml"] = BASE
    path = recipe(url(server, "/base.yml"))
    for _ in range(2):
        loaded = load_recipe(path)
        assert loaded.values == {"seed": 7, "lora_r": 2}
    place = loaded.place_of(("seed",))
    assert place is not None
    assert str(place) == f"{url(server, '/base.yml')}:1:7"
    assert server.asked == ["/base.yml"]
    (kept,) = Path("cache/recipes").iterdir()
    assert kept.read_bytes() == BASE


def test_a_kept_copy_that_was_tampered_with_is_fetched_anew(server: Server) -> None:
    server.pages["/base.yml"] = BASE
    path = recipe(url(server, "/base.yml"))
    load_recipe(path)
    (kept,) = Path("cache/recipes").iterdir()
    kept.write_bytes(b"seed: 666\n")
    assert load_recipe(path).values["seed"] == 7
    assert kept.read_bytes() == BASE


def test_changed_content_is_refused_with_both_hashes(server: Server) -> None:
    server.pages["/base.yml"] = b"seed: 8\n"
    text = refused(recipe(url(server, "/base.yml")))
    assert text.startswith("recipe.yml:3:5: error: the content of https://localhost:")
    assert hashlib.sha256(b"seed: 8\n").hexdigest() in text
    assert hashlib.sha256(BASE).hexdigest() in text
    assert not Path("cache/recipes").exists()


def test_a_problem_in_a_fetched_base_is_shown_with_its_line(server: Server) -> None:
    content = b"# rates\nlearning_rate: fast\n"
    server.pages["/base.yml"] = content
    path = recipe(url(server, "/base.yml"), content)
    loaded = load_recipe(path)
    text = render_problems(check_recipe(loaded, load_host()), loaded, colour=False)
    assert f"{url(server, '/base.yml')}:2:16: error: 'learning_rate' is the text 'fast'" in text
    assert "    learning_rate: fast\n" in text
    assert "extended by recipe.yml:3" in text


def test_content_that_is_no_yaml_is_refused_at_its_place(server: Server) -> None:
    for content, message in ((b"a: b: c\n", ":1:5: error: not valid YAML"), (b"\xff\n", ":1:1: error: byte 0xff")):
        server.pages["/base.yml"] = content
        assert f"{url(server, '/base.yml')}{message}" in refused(recipe(url(server, "/base.yml"), content))


@pytest.mark.parametrize("path", ["/large", "/endless"])
def test_what_is_too_large_is_not_read_to_the_end(server: Server, path: str) -> None:
    text = refused(recipe(url(server, path)))
    assert "bytes, a recipe at most 1,000,000" in text
    assert text.startswith("recipe.yml:3:5: error: ")


def test_a_redirect_leads_to_https_only(server: Server) -> None:
    server.pages["/base.yml"] = BASE
    server.redirects["/moved"] = url(server, "/base.yml")
    server.redirects["/down"] = "http://localhost:1/base.yml"
    server.redirects["/file"] = "file:///etc/hostname"
    assert load_recipe(recipe(url(server, "/moved"))).values["seed"] == 7
    for path, reason in (("/down", "which is not https"), ("/file", "is not allowed")):
        shutil.rmtree("cache")
        assert reason in refused(recipe(url(server, path)))
        Path("cache").mkdir()


def test_what_cannot_be_had_is_told_with_the_reason(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be fetched: 404 Not Found" in refused(recipe(url(server, "/missing")))
    assert "cannot be fetched: [Errno" in refused(recipe("https://localhost:1/base.yml"))
    monkeypatch.delenv("SSL_CERT_FILE")
    server.pages["/base.yml"] = BASE
    assert "certificate verify failed" in refused(recipe(url(server, "/base.yml")))


def test_a_slow_server_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.pages["/base.yml"] = BASE
    monkeypatch.setattr(fetch, "TOTAL_SECONDS", -1.0)
    assert "cannot be fetched: the server is too slow" in refused(recipe(url(server, "/base.yml")))


def test_a_fetched_base_names_nothing_of_this_machine(server: Server) -> None:
    content = (
        b"extends: beside.yml\nbase_model: /srv/model\noutput_dir: ../out\n"
        b"datasets: [{path: ../private.jsonl, type: alpaca}, {path: ~/x.jsonl, type: alpaca}]\n"
    )
    server.pages["/base.yml"] = content
    address = url(server, "/base.yml")
    text = refused(recipe(address, content))
    assert f"{address}:1:10: error: 'beside.yml' has no folder to start from" in text
    content = content.partition(b"\n")[2]
    server.pages["/base.yml"] = content
    loaded = load_recipe(recipe(address, content))
    found = [problem.message for problem in check_recipe(loaded, load_host()) if "points outside" in problem.message]
    assert found == [
        f"{path!r} points outside {address}" for path in ("/srv/model", "../out", "../private.jsonl", "~/x.jsonl")
    ]


class Hub(Handler):
    """As much of the hub as its client asks for to download a file at a commit."""

    def do_HEAD(self) -> None:
        self.server.asked.append(f"HEAD {self.path}")
        content = self.server.pages.get(self.path)
        self.send_response(200 if content is not None else 404)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            size = 200_000_000 if "large" in self.path else len(content)
            self.send_header("Content-Length", str(size))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()

    def do_GET(self) -> None:
        super().do_GET()


@pytest.fixture
def hub() -> Iterator[Server]:
    server = Server(Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def check(folder: Path, endpoint: str) -> tuple[int, str]:
    """`tunesmith check recipe.yml` in a process of its own: the hub's client reads its settings when it is imported."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        environment.pop(name, None)
    environment["NO_PROXY"] = "127.0.0.1"
    done = subprocess.run(
        [sys.executable, "-m", "core", "check", "recipe.yml"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_a_base_on_the_hub_is_read_at_its_commit_and_kept(hub: Server, tmp_path: Path) -> None:
    root = f"/org/repo/resolve/{COMMIT}"
    hub.pages[f"{root}/team/base.yml"] = b"extends: ../shared.yml\nlora_r: 4\n"
    hub.pages[f"{root}/shared.yml"] = b"datasets: [{path: org/data, type: alpaca}]\nadapter: lora\n"
    (tmp_path / "recipe.yml").write_text(f"base_model: org/model\nextends: hf://org/repo/team/base.yml@{COMMIT}\n")
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    assert check(tmp_path, endpoint) == (0, "recipe.yml: ok (4 keys, 0 warnings)\n")
    asked = len(hub.asked)
    assert asked > 0
    # from the hub's own cache, as if offline
    assert check(tmp_path, "http://127.0.0.1:1")[0] == 0
    assert len(hub.asked) == asked


def test_a_base_on_the_hub_that_cannot_be_had_is_told_where_it_is_asked_for(hub: Server, tmp_path: Path) -> None:
    hub.pages[f"/org/repo/resolve/{COMMIT}/large.yml"] = b"seed: 1\n"
    bases = [f"hf://org/repo/{name}.yml@{COMMIT}" for name in ("large", "missing")]
    (tmp_path / "recipe.yml").write_text(f"extends: {json.dumps(bases)}\n")
    code, text = check(tmp_path, f"http://127.0.0.1:{hub.server_port}")
    assert code == 2
    assert "recipe.yml:1:11: error: hf://org/repo/large.yml@" in text
    assert "the file has 200,000,000 bytes" in text
    assert "cannot be fetched: the repository has no such file at this commit" in text
    code, text = check(tmp_path, "http://127.0.0.1:1")
    assert code == 2
    assert text.count("cannot be fetched: ") == 2


def test_a_full_disk_leaves_no_part_of_what_was_fetched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        fetch._keep(tmp_path / "recipes" / "base", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "recipes").iterdir()) == []
    assert "cannot be written, so it is fetched anew each time: File too large" in capsys.readouterr().err
    fetch._keep(tmp_path / "recipes" / "base", b"x" * 100_000)
    assert [file.stat().st_size for file in (tmp_path / "recipes").iterdir()] == [100_000]
