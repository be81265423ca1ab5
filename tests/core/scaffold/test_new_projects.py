"""What `tunesmith new recipe-package` and `new plugin` make: generated, installed by pip, and their own tests run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from core.cli import main
from core.commands.new import KINDS

NAMES = {"format": "med-qa", "adapter": "gains", "trainer": "plain_descent", "evaluator": "First-Word-Right"}


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A project of every kind, by kind."""
    folder = tmp_path_factory.mktemp("projects")
    made = {kind: folder / kind for kind in KINDS}
    for kind, project in made.items():
        assert main(["new", "plugin", NAMES[kind], "--kind", kind, "--output", str(project)]) == 0
    package = folder / "recipes"
    assert main(["new", "recipe-package", "Team-Med", "--output", str(package)]) == 0
    return {**made, "recipe-package": package}


@pytest.fixture(scope="module")
def site(projects: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installed all of them into."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", target]
    subprocess.run([*pip, *projects.values()], check=True)
    return target


def run(site: Path, *command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    variables["PYTHONPATH"] = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-P", *map(str, command)], capture_output=True, text=True, env=variables, cwd=cwd
    )


@pytest.mark.slow
def test_their_own_tests_pass(projects: Mapping[str, Path], site: Path) -> None:
    folder = projects["format"].parent
    done = run(
        site, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--rootdir", folder, *projects.values(), cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = [
        line.split("::")[0] for line in done.stdout.splitlines() if line.rstrip().split(" [")[0].endswith("PASSED")
    ]
    assert set(passed) == {
        "format/tests/test_med_qa.py",
        "adapter/tests/test_gains.py",
        "trainer/tests/test_plain_descent.py",
        "evaluator/tests/test_first_word_right.py",
        "recipes/tests/test_recipes.py",
    }


def test_they_are_listed_once_installed(site: Path) -> None:
    done = run(site, "-m", "core", "plugins")
    assert done.returncode == 0, done.stderr
    for name in ("tunesmith-med-qa 0.1.0", "med_qa", "gains_match", "plain_descent", "first_word_right"):
        assert name in done.stdout
    done = run(site, "-m", "core", "recipes")
    assert done.returncode == 0, done.stderr
    assert "team-med:lora" in done.stdout
    assert "LoRA with the settings of the team" in done.stdout


def test_a_name_that_is_taken_is_refused(site: Path, tmp_path: Path) -> None:
    done = run(site, "-m", "core", "new", "plugin", "tunesmith-gains", "--kind", "adapter", cwd=tmp_path)
    assert (done.returncode, "the adapter 'gains' is there already: gains offers it" in done.stderr) == (2, True)


def test_the_generated_code_is_clean(projects: Mapping[str, Path]) -> None:
    files = [file for project in projects.values() for file in project.rglob("*.py") if "build" not in file.parts]
    assert len(files) == 2 * len(projects)
    rules = ["--isolated", "--line-length", "120", "--no-cache"]
    checked = subprocess.run(
        ["ruff", "check", *rules, "--select", "E,F,W,B,UP", *files], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout
    shaped = subprocess.run(["ruff", "format", "--check", *rules, *files], capture_output=True, text=True)
    assert shaped.returncode == 0, shaped.stdout


def test_a_project_goes_into_a_folder_of_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "plugin", "exact", "--yes"]) == 0
    assert (tmp_path / "tunesmith-exact" / "tests" / "test_exact.py").is_file()
    assert main(["new", "recipe-package", "team"]) == 0
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    capsys.readouterr()
    (tmp_path / "team" / "README.md").unlink()
    assert main(["new", "recipe-package", "team"]) == 2
    shown = capsys.readouterr().err
    assert "team/pyproject.toml" in shown
    assert "nothing was written" in shown
    after = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert after == {file: text for file, text in before.items() if file.name != "README.md" or "exact" in str(file)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recipe-package", "../x"], "'../x' cannot be a package's name"),
        (["recipe-package", "9lives"], "'9lives' cannot be a package's name"),
        (["recipe-package", "core"], "'core' is the name of a package that tunesmith needs itself"),
        (
            ["plugin", "lora", "--kind", "adapter"],
            "the adapter 'lora' is there already: plugins.adapters.lora offers it",
        ),
        (["plugin", "x", "--kind", "formt"], "invalid choice: 'formt'"),
        (["plugin", "x"], "there is no terminal to ask on, and --kind is not given"),
        (["thing"], "invalid choice: 'thing'"),
    ],
)
def test_what_cannot_be_made_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core.commands.new._terminal", lambda: False)
    assert main(["new", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
