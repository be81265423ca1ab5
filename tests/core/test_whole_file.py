from __future__ import annotations

from pathlib import Path

import pytest

from core.whole_file import whole_file, write_whole


def test_what_was_there_stays_until_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("before")
    with whole_file(path) as file:
        file.write("after\u2028")
        file.flush()
        assert path.read_text() == "before"
    assert path.read_text(encoding="utf-8") == "after\u2028"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("before")

    def fail() -> None:
        with whole_file(path) as file:
            file.write("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "nowhere" / "report.json", "text")
