from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.report import rerender


@pytest.fixture
def finished(tmp_path: Path, values: dict[str, Any], predictions: list[dict[str, Any]]) -> Path:
    (tmp_path / "run.json").write_text(json.dumps(values))
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in predictions))
    return tmp_path


@pytest.mark.parametrize(
    ("saved", "loader"), [("adapter_config.json", "Peft"), ("config.json", "AutoModelForCausalLM")]
)
def test_the_card_tells_how_to_load_what_was_saved(finished: Path, saved: str, loader: str) -> None:
    (finished / saved).write_text("{}")
    rerender(finished)
    card = (finished / "README.md").read_text()
    assert ("AutoPeftModelForCausalLM" in card) is (saved == "adapter_config.json")
    assert loader in card


def test_a_full_disk_is_told_and_leaves_the_earlier_report(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rerender(finished)
    before = (finished / "report.html").read_text()

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"report\.html' cannot be written: no space left on device") as told:
        rerender(finished)
    way_on = f"make room there, then write it from the run's other files with `tunesmith report {finished}`"
    assert told.value.help == way_on
    assert (finished / "report.html").read_text() == before
    assert list(finished.glob(".partial-*")) == []


def test_a_folder_without_a_finished_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no finished run: run\.json is missing"):
        rerender(tmp_path)


def test_an_answer_may_hold_any_character_that_ends_a_line(finished: Path, predictions: list[dict[str, Any]]) -> None:
    # as a run writes them: only what JSON requires is escaped
    odd = [{**line, "prompt": "one\u2028two\u0085three\u2029four"} for line in predictions]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in odd)
    (finished / "predictions.jsonl").write_text(text, encoding="utf-8")
    rerender(finished)
    assert (finished / "report.html").is_file()
