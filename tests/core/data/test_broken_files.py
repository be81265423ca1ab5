"""Each kind of broken data gives the message that broken_files.txt holds, and never a traceback.

To write the file anew after a change of words: `TUNESMITH_REWRITE=1 pytest tests/core/data/test_broken_files.py`, and
then read what has changed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from core.data import prepare
from core.errors import DataError
from core.preview.propose import propose_recipe
from tests.core.data.broken_files import BROKEN, Broken
from tests.core.data.making import dataset, plan_of

GOLDEN = Path(__file__).with_name("broken_files.txt")
LONGEST_LINE = 400


def lay_out(broken: Broken, where: Path) -> None:
    if callable(broken.files):
        broken.files(where)
    else:
        for name, content in broken.files.items():
            (where / name).write_bytes(content)


def told(error: DataError) -> str:
    return f"{error.message}\nhelp: {error.help}"


def golden() -> dict[str, str]:
    parts = GOLDEN.read_text(encoding="utf-8").split("\n\n== ") if GOLDEN.exists() else []
    return dict(part.removeprefix("== ").rstrip("\n").split("\n", 1) for part in parts)  # type: ignore[misc]


@pytest.fixture(scope="module")
def found() -> Any:
    """What the cases of this run said; written down where that is asked for."""
    said: dict[str, str] = {}
    yield said
    if os.environ.get("TUNESMITH_REWRITE"):
        GOLDEN.write_text("\n\n".join(f"== {name}\n{text}" for name, text in said.items()) + "\n", encoding="utf-8")


def test_there_are_enough_of_them() -> None:
    assert len(BROKEN) >= 80
    if not os.environ.get("TUNESMITH_REWRITE"):
        assert list(golden()) == list(BROKEN)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_said(tokenizer: Any, in_tmp_path: Path, found: dict[str, str], name: str) -> None:
    broken = BROKEN[name]
    if broken.path.endswith(".zst"):
        pytest.importorskip("zstandard", reason="the extra zstd is not installed")
    lay_out(broken, in_tmp_path)
    tokenizer.bos_token = "<|im_start|>"
    path = in_tmp_path / broken.path
    with pytest.raises(DataError) as error:
        prepare(plan_of(in_tmp_path / "run", dataset(path, broken.type, **broken.options)), tokenizer)
    text = told(error.value)
    found[name] = text
    assert error.value.help
    assert str(in_tmp_path) not in text
    assert max(map(len, text.splitlines())) < LONGEST_LINE
    if not os.environ.get("TUNESMITH_REWRITE"):
        assert text == golden()[name]


@pytest.mark.parametrize("name", BROKEN)
def test_a_proposal_never_ends_in_a_traceback(in_tmp_path: Path, name: str) -> None:
    broken = BROKEN[name]
    lay_out(broken, in_tmp_path)
    said: list[str] = []
    with contextlib.suppress(DataError):
        said = propose_recipe(in_tmp_path / broken.path)
    assert all(isinstance(line, str) for line in said)


def test_no_permission(tokenizer: Any, in_tmp_path: Path) -> None:
    locked, folder = in_tmp_path / "locked.jsonl", in_tmp_path / "folder"
    locked.write_text("")
    folder.mkdir()
    (folder / "data.jsonl").write_text("")
    locked.chmod(0)
    folder.chmod(0)
    seen = []
    user = os.geteuid()
    if user == 0:
        for parent in in_tmp_path.parents[:3]:
            parent.chmod(parent.stat().st_mode | 0o111)
        in_tmp_path.chmod(0o755)
        os.seteuid(65534)  # nobody: the superuser may read everything
    try:
        for path in (locked, folder, folder / "data.jsonl"):
            with pytest.raises(DataError) as error:
                list(_rows(path))
            seen.append(told(error.value))
    finally:
        os.seteuid(user)
        folder.chmod(0o700)
    assert seen == [
        "no permission to read locked.jsonl\nhelp: check the file's owner and mode",
        "no permission to read the folder folder\nhelp: check its owner and mode",
        "no permission to read folder/data.jsonl\nhelp: check the owner and mode of its folders",
    ]


def _rows(path: Path) -> Any:
    from core.data import read_rows

    return read_rows(dataset(path))
