"""Secrets written into a recipe appear in no output: diagnostics, show, diff, the lock, the files of a run."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core import host as host_module
from core.check import check_recipe
from core.cli import main
from core.diagnostics import render_problems
from core.errors import RecipeError, UserError
from core.hookspecs import hookimpl
from core.host import load_host
from core.recipe import Recipe, load_recipe
from core.secrets import holds_a_mask, masked, masked_address, masked_line, secrets_in, without_secrets
from core.testing.recipes import ALPACA_ROWS, write_tiny_recipe
from tests.core.lock.conftest import tunesmith

SECRET = "s3cr3t-Zq9"
VALID = "base_model: org/model\ndatasets: [{path: org/data, type: alpaca}]\n"
HUB_TOKEN = "hf_" + "aB3" * 12


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/x", "https://***@host/x"),
        ("no data at 'https://tok@host/a' today", "no data at 'https://***@host/a' today"),
        ("https://host/x?token=abc&v=2", "https://host/x?token=***&v=2"),
        ("s3://b/k?X-Amz-Signature=0af&X-Amz-Date=1", "s3://b/k?X-Amz-Signature=***&X-Amz-Date=1"),
        (f"the token {HUB_TOKEN}.", "the token ***."),
        ("hf://datasets/org/name@main/x", "hf://datasets/org/name@main/x"),
        ("abfss://container@account.host/x", "abfss://container@account.host/x"),
        ("mail me@host", "mail me@host"),
        ("https://***@host/x?token=***", "https://***@host/x?token=***"),
    ],
)
def test_passwords_in_texts_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown


def test_known_secrets_are_masked_as_whole_words() -> None:
    assert masked("'abcd' and abcde", {"abcd"}) == "'***' and abcde"


@pytest.mark.parametrize(
    ("line", "column", "shown", "moved"),
    [
        ("hub_token: abc", 11, "hub_token: ***", 11),
        ("hub_token: abc", 0, "hub_token: ***", 0),
        ('  api: {my_api_key: "abcdefgh", seed: x}', 38, '  api: {my_api_key: "***", seed: x}', 33),
        ("{hub_token: abcdefgh, seed: x}", 28, "{hub_token: ***, seed: x}", 23),
        ("{secrets: [a, b], seed: 1}", 18, "{secrets: ***, seed: 1}", 15),
        ("hub_token=abc", 10, "hub_token=***", 10),
        ("hub_token: ${HUB}", 11, "hub_token: ${HUB}", 11),
        ("hub_token: null", 11, "hub_token: null", 11),
        ("eos_token: <|end|>", 11, "eos_token: <|end|>", 11),
        ("path: https://a:b@host/x", 6, "path: https://***@host/x", 6),
    ],
)
def test_a_line_is_masked_and_its_column_follows(line: str, column: int, shown: str, moved: int) -> None:
    assert masked_line(line, column) == (shown, moved)


def test_values_are_masked_by_key_and_by_form() -> None:
    values = {"a_token": 12345, "db_password": {"x": "y"}, "path": "https://u:p@h/x", "off_token": False, "n": None}
    assert without_secrets(values) == {
        "a_token": "***",
        "db_password": "***",
        "path": "https://***@h/x",
        "off_token": False,
        "n": None,
    }
    assert secrets_in({"a": [{"b_token": ["one1", "no"]}]}) == {"one1"}


def test_a_mask_is_known_again_and_prose_is_not() -> None:
    assert holds_a_mask("***")
    assert holds_a_mask("https://***@host/x")
    assert holds_a_mask("https://host/x?token=***")
    assert not holds_a_mask("see https://host/a *** b ***")
    assert not holds_a_mask("*** important ***")


def test_every_user_error_is_masked() -> None:
    error = UserError("https://u:pw@host/x cannot be fetched", help=f"{HUB_TOKEN} is no good")
    assert (error.message, str(error), error.help) == (
        "https://***@host/x cannot be fetched",
        "https://***@host/x cannot be fetched",
        "*** is no good",
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        (f"{VALID}hub_token: {SECRET}\n", []),
        (f"{VALID}hub_token: '{SECRET}'  # mine\nseed: x\n", []),
        (f"{VALID}hub_token: {SECRET}\nhub_token: {SECRET}\n", []),
        (f"{VALID}hub_token: |\n  {SECRET}\nwandb_nam: a{SECRET}\n", []),
        (f"{VALID}hub_token: {SECRET}: x\n", []),
        (f"{VALID}hub_token: [{SECRET}\n", []),
        (f"{VALID}seed: {SECRET}\nsome_password: {SECRET}\n", []),
        (VALID, [f"hub_token={SECRET}"]),
        (VALID, [f"hub_token: {SECRET}"]),
        (f"{VALID}hub_token: {SECRET}\n", ["hub_token.x=1"]),
        (f"extends: https://me:{SECRET}@host/x.yml\n{VALID}", []),
        (f"extends: {{url: 'https://me:{SECRET}@host/x.yml', sha256: {'0' * 64}}}\n{VALID}", []),
        (f"extends: {{url: 'https://host.invalid/x.yml?sig={SECRET}', sha256: {'0' * 64}}}\n{VALID}", []),
        (f"extends: hf://me:{SECRET}@x\n{VALID}", []),
        (f"base_model: org/model\ndatasets: [{{path: 'http://me:{SECRET}@host/x.jsonl', type: alpaca}}]\n", []),
        (f"base_model: org/model\ndatasets: [{{path: 'https://h/x?token={SECRET}', type: alpacca}}]\n", []),
        (f"base_model: https://me:{SECRET}@host/model\nseed: x\ndatasets: [{{path: a/b, type: alpaca}}]\n", []),
    ],
)
def test_no_diagnostic_shows_a_secret(text: str, overrides: list[str]) -> None:
    Path("r.yml").write_text(text)
    try:
        recipe = load_recipe(Path("r.yml"), overrides)
        problems = check_recipe(recipe, load_host())
    except RecipeError as error:
        recipe, problems = error.recipe or Recipe(Path("r.yml"), text, {}), list(error.problems)
    shown = render_problems(problems, recipe)
    assert "error: " in shown
    assert SECRET not in shown
    # short secrets of the wrong type are hidden too
    Path("r.yml").write_text(f"{VALID}wandb_api_key: 77\n")
    recipe = load_recipe(Path("r.yml"))
    assert "77" not in render_problems(check_recipe(recipe, load_host()), recipe)


@pytest.fixture
def with_a_secret_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that owns a key with a secret in it."""
    plugin = ModuleType("secretive")

    @hookimpl
    def recipe_keys() -> dict[str, Any]:
        return {"demo_token": {"type": "string", "description": "Secret."}}

    plugin.recipe_keys = recipe_keys  # type: ignore[attr-defined]
    loaded = load_host(extra=[plugin])
    monkeypatch.setattr(host_module, "load_host", lambda: loaded)


@pytest.mark.usefixtures("with_a_secret_key")
def test_neither_show_nor_diff_tells_one(capsys: pytest.CaptureFixture[str]) -> None:
    data = f"https://me:{SECRET}@host/x.jsonl"
    Path("a.yml").write_text(f"base_model: org/m\ndatasets: [{{path: '{data}', type: completion}}]\n")
    Path("b.yml").write_text(
        f"base_model: org/m\ndatasets: [{{path: 'https://h/x?sig={SECRET}', type: completion}}]\ndemo_token: {SECRET}\n"
    )
    codes = [main(arguments) for arguments in (["show", "a.yml"], ["show", "b.yml"], ["diff", "a.yml", "b.yml"])]
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    assert codes[2] == 1 or "error: " in printed.err
    assert "***" in printed.out + printed.err


class _Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = "".join(f"{json.dumps(row)}\n" for row in ALPACA_ROWS).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    serving = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


def test_no_file_and_no_line_of_a_run_holds_one(server: str, tiny_model: Path, folder: Path) -> None:
    data = {"path": f"{server}/train.jsonl?token={SECRET}", "type": "alpaca"}
    recipe = write_tiny_recipe(folder, tiny_model, {"datasets": [data], "save_steps": 2, "max_steps": 2})
    run = tunesmith("run", recipe)
    assert run.returncode == 0, run.stderr
    assert SECRET not in run.stdout + run.stderr
    written = [file for file in (folder / "out").rglob("*") if file.is_file()]
    assert {"run.json", "report.html", "README.md", "recipe.lock.yml"} <= {file.name for file in written}
    assert any("checkpoint" in str(file) for file in written)
    assert [file for file in written if SECRET.encode() in file.read_bytes()] == []
    # the lock says which value it does not hold
    again = tunesmith("run", "--locked", folder / "out" / "recipe.lock.yml", "--set", "output_dir=again")
    assert again.returncode == 2
    assert "'datasets.0.path' is a secret, which the lock does not hold" in again.stderr


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://key:pa%22ss#w(rd@bucket/a.jsonl", "s3://***@bucket/a.jsonl"),
        ("https://data.org/a.jsonl?part=1&t=x", "https://data.org/a.jsonl?part=***&t=***"),
        ("https://data.org/a.jsonl?x", "https://data.org/a.jsonl?x=***"),
        ("abfss://rows@account.dfs.core.windows.net/a.jsonl", "abfss://rows@account.dfs.core.windows.net/a.jsonl"),
        (f"https://data.org/hf_{'a' * 34}/a.jsonl", "https://data.org/***/a.jsonl"),
        ("org/data?x=1", "org/data?x=1"),
    ],
)
def test_an_address_shows_no_password_and_nothing_that_it_asks_with(address: str, shown: str) -> None:
    assert masked_address(address) == shown
    assert masked_address(shown) == shown
