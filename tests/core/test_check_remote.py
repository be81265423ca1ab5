"""What `check` says about data elsewhere, before anything is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.check import check_recipe
from core.data import addresses
from core.errors import Problem
from core.host import load_host
from core.recipe import load_recipe


def problems(tmp_path: Path, entry: str) -> list[Problem]:
    path = tmp_path / "recipe.yml"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    path.write_text(f"base_model: ./model\ndatasets:\n  - type: alpaca\n    {entry}\n")
    return [problem for problem in check_recipe(load_recipe(path), load_host()) if problem.key[:1] == ("datasets",)]


@pytest.mark.parametrize(
    ("entry", "message", "line"),
    [
        ("path: ftp://host/a.jsonl", "'ftp://host/a.jsonl': ftp:// is no address that data are read from", 4),
        ("path: http://host.org/a.jsonl", "'http://host.org/a.jsonl' is not secure: http is refused", 4),
        (
            "path: json\n    data_files: [http://h.org/a.jsonl?key=123]",
            "'http://h.org/a.jsonl?key=***' is not secure",
            5,
        ),
    ],
)
def test_refused_addresses_have_their_place(tmp_path: Path, entry: str, message: str, line: int) -> None:
    (found,) = problems(tmp_path, entry)
    assert found.message.startswith(message)
    assert found.severity == "error"
    assert found.position is not None
    assert found.position.line == line


def test_a_missing_package_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "find_spec", lambda name: None)
    (found,) = problems(tmp_path, "path: s3://bucket/a.jsonl")
    assert found.message == "'s3://bucket/a.jsonl' needs the package s3fs, which is not installed"
    assert found.help == 'install it: pip install "tunesmith[s3]"'
    assert found.blocks_run


def test_addresses_that_can_be_read_are_met_with_silence(tmp_path: Path) -> None:
    assert problems(tmp_path, "path: https://host.org/a.jsonl.gz") == []
