"""`tunesmith cache`: what it lists, what it takes away, and what it leaves alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from core.cli import main
from core.data.cache import remove_folder, take_entry

STATS = {"stats": {"datasets": [{"examples": 3, "tokens": 1234}]}, "recipe": "/somewhere/mine.yml"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two prepared data sets and a converted model."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    made = tmp_path / "prepared"
    for name in ("aaaa", "bbbb"):
        take_entry(made, name, lambda folder: (folder / "rows").write_bytes(b"x" * 2000) and STATS)
    model = tmp_path / "gguf" / "model-v1"
    model.mkdir(parents=True)
    (model / "weights").write_bytes(b"x" * 5_000_000)
    return made


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main(["cache", "--json", *arguments]) == 0
    return [(entry["kind"], entry["name"]) for entry in json.loads(capsys.readouterr().out)["entries"]]


ALL = [("prepared", "aaaa"), ("prepared", "bbbb"), ("model", "model-v1")]


def test_the_list(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[:2] for line in lines[:2]) == [["prepared", "aaaa"], ["prepared", "bbbb"]]
    assert "3 examples, 1,234 tokens, mine.yml" in lines[0]
    assert lines[2].split()[:4] == ["model", "model-v1", "5.0", "MB"]
    assert lines[3].startswith("3 entries, 5.0 MB in ")
    assert sorted(listed(capsys)) == sorted(ALL)
    assert listed(capsys, "--path", str(root), "bb") == [("prepared", "bbbb")]


def test_clearing_a_selection(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--clear", "aa"]) == 0
    assert capsys.readouterr().out.startswith("cleared 1 entry, ")
    assert listed(capsys) == ALL[1:]
    assert main(["cache", "--clear", "model"]) == 0
    assert listed(capsys) == ALL[1:2]
    assert main(["cache", "--clear"]) == 0
    assert listed(capsys) == []
    assert {file.name for file in root.iterdir()} <= {".aaaa.lock", ".bbbb.lock"}


def test_clearing_what_is_old(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.utime(root / "aaaa" / "prepared.json", (1, 1))
    assert main(["cache", "--clear", "--older-than", "30"]) == 0
    assert listed(capsys) == ALL[1:]


@pytest.mark.parametrize("days", ["-3", "nan"])
def test_days_below_zero_clear_nothing(root: Path, days: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--clear", "--older-than", days]) == 2
    assert f"--older-than {days} is no number of days" in capsys.readouterr().err
    assert listed(capsys) != []


def test_leavings_go_and_what_is_being_written_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("dead", "alive"):
        (root / f".partial-{name}").mkdir()
        (root / f".partial-{name}" / "rows").write_bytes(b"x" * 1000)
    with FileLock(root / ".alive.lock"):
        assert main(["cache", "--clear", "aa"]) == 0
    assert "cleared what stopped runs had left behind, 1.0 kB" in capsys.readouterr().out
    assert [folder.name for folder in root.glob(".partial-*")] == [".partial-alive"]


def test_what_is_being_made_anew_is_left_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(root / ".aaaa.lock"):
        assert main(["cache", "--clear", "prepared"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "left 1 alone: another process is at work there"
    assert listed(capsys) == [ALL[0], ALL[2]]


def test_clearing_lets_nobody_past_a_lock(root: Path) -> None:
    waiting = FileLock(root / ".aaaa.lock")
    inode = (root / ".aaaa.lock").stat().st_ino
    assert remove_folder(root / "aaaa") is not None
    assert remove_folder(root / "aaaa") is None  # another process was faster
    with waiting:
        # one that comes later waits for the same file
        assert (root / ".aaaa.lock").stat().st_ino == inode
        with pytest.raises(Timeout):
            FileLock(root / ".aaaa.lock").acquire(timeout=0)


def test_an_unknown_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--clear", "zzzz"]) == 2
    assert "nothing in the cache begins with 'zzzz'" in capsys.readouterr().err
    assert listed(capsys) != []
