"""The wheel: what is in it, and that it works where no source tree is near."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that nothing is left in the source tree, and nothing stale gets in."""
    source = tmp_path_factory.mktemp("source") / "tunesmith"
    junk = shutil.ignore_patterns(
        "__pycache__", "*.egg-info", "build", "dist", ".*_cache", ".git", "venv", ".venv", "outputs"
    )
    shutil.copytree(ROOT, source, ignore=junk)
    target = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        target,
        source,
    ]
    subprocess.run(command, check=True)
    (built,) = target.glob("tunesmith-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it; dependencies are read from the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # a plain path: `.pth` files in there, such as that of an editable install, are not read
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


def run(environment: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    program, *arguments = command
    return subprocess.run(
        [environment / "bin" / program, *arguments], cwd=folder, env=variables, capture_output=True, text=True
    )


def test_what_is_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"core", "plugins", "schemas", "recipes"}
    committed = {f"schemas/{path.name}" for path in (ROOT / "schemas").glob("*.json")}
    committed |= {f"recipes/{path.name}" for path in (ROOT / "recipes").glob("*.yml")}
    assert len(committed) > 8
    assert committed <= set(names)
    assert "recipes/icd10/train.jsonl" in names
    assert "core/py.typed" in names
    modules = {str(path.relative_to(ROOT)) for top in ("core", "plugins") for path in (ROOT / top).rglob("*.py")}
    assert len(modules) > 40
    assert modules <= set(names)
    licences = {name.rsplit("/", 1)[-1] for name in names if ".dist-info/" in name}
    assert {"LICENSE", "NOTICE", "entry_points.txt"} <= licences


def test_the_installed_wheel_is_what_is_imported(environment: Path, tmp_path: Path) -> None:
    done = run(
        environment, tmp_path, "python", "-c", "import core, plugins, schemas; print(core.__file__, plugins.__file__)"
    )
    assert done.returncode == 0, done.stderr
    for path in done.stdout.split():
        assert Path(path).is_relative_to(environment.resolve()), path


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("tunesmith", "--help"), "launch"),
        (("python", "-m", "core", "plugins"), "chat_template"),
        (("python", "-m", "core", "schema"), "lora_r"),
    ],
)
def test_a_command_works_from_another_folder(
    environment: Path, tmp_path: Path, command: tuple[str, ...], expected: str
) -> None:
    done = run(environment, tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_a_packaged_recipe_can_be_checked(environment: Path, tmp_path: Path) -> None:
    found = run(environment, tmp_path, "python", "-c", "import recipes; print(*recipes.__path__)")
    recipe = Path(found.stdout.strip()) / "llama-lora.yml"
    (tmp_path / "mine.jsonl").write_text('{"instruction": "Say yes.", "output": "yes"}\n')
    done = run(environment, tmp_path, "tunesmith", "check", str(recipe), *overrides(recipe, tmp_path / "mine.jsonl"))
    assert done.returncode == 0, done.stdout + done.stderr


def overrides(recipe: Path, data: Path) -> list[str]:
    """`--set` options that point every data set of `recipe` at `data`."""
    import yaml

    values = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    places = [f"datasets.{index}.path" for index in range(len(values["datasets"]))]
    held_out = (values.get("evaluation") or {}).get("datasets") or []
    places += [f"evaluation.datasets.{index}.path" for index in range(len(held_out))]
    return [part for place in places for part in ("--set", f"{place}={data}")]
