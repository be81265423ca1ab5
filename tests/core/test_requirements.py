"""`requires`: what is missing or too old is told, with the command that brings it."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import __version__
from core.check.requirements import requirement_problems
from core.errors import Problem
from core.recipe import Recipe


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, version, needs in (
        ("tunesmith-medqa", "1.2.3", "no-such-thing>1; extra == 'all'"),
        ("beta", "2.0b1", ""),
    ):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Provides-Extra: all"]
        lines += [f"Requires-Dist: {needs}"] if needs else []
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def told(*required: object) -> list[Problem]:
    return list(requirement_problems(Recipe(Path("r.yml"), "", {"requires": list(required)})))


def test_what_is_installed_is_no_problem() -> None:
    assert told(f"tunesmith=={__version__}", "tunesmith-medqa~=1.2", "TuneSmith_MedQA", "beta>=1.9", "pyyaml") == []
    assert told("no-such-thing; python_version < '3'") == []


@pytest.mark.parametrize(
    ("requirement", "message", "command"),
    [
        ("tunesmith>=99", f"and tunesmith {__version__} is installed", 'pip install "tunesmith>=99"'),
        ("tunesmith-medqa~=1.3", "and tunesmith-medqa 1.2.3 is installed", 'pip install "tunesmith-medqa~=1.3"'),
        ("no-such-thing", "and no-such-thing is not installed", 'pip install "no-such-thing"'),
        (
            "tunesmith-medqa[all]>=1",
            "and no-such-thing of its extra 'all' is not installed",
            'pip install "tunesmith-medqa[all]>=1"',
        ),
    ],
)
def test_what_is_missing_is_told_with_the_command(requirement: str, message: str, command: str) -> None:
    (problem,) = told("pyyaml", requirement)
    assert problem.message == f"the recipe requires {requirement!r}, {message}"
    assert problem.help == f"install it: {command}"
    assert problem.key == ("requires", 1)


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("tunesmith >> 3", "'tunesmith >> 3' is no requirement"),
        ("a b c", "'a b c' is no requirement"),
        ("x @ https://host/x.whl", "'x @ https://host/x.whl': a requirement by address is not allowed"),
    ],
)
def test_what_is_no_requirement_is_told(requirement: str, message: str) -> None:
    (problem,) = told(requirement)
    assert problem.message.startswith(message)
    assert problem.help


def test_one_requirement_of_several_files_is_told_once_and_other_values_are_left_to_the_schema() -> None:
    assert len(told("no-such-thing", "no-such-thing")) == 1
    assert told(3, "", None) == []
    assert list(requirement_problems(Recipe(Path("r.yml"), "", {"requires": "x"}))) == []
