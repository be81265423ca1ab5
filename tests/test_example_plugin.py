"""A third party's package: installed, a recipe uses every one of its components; not installed, the recipe says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from core.testing.conformance import check_plugin
from core.testing.recipes import write_tiny_recipe

PACKAGE = Path(__file__).parent / "example_plugin"
PLUGINS = ("medqa", "norm_tuning", "plain_sgd", "first_word", "one_rationale")
ROWS = [
    {
        "question": f"Is {number} even?",
        "rationale": f"{number} leaves {number % 2}." if number else "1 leaves 1.",
        "answer": "no" if number % 2 else "yes",
    }
    for number in range(13)
]
VALUES = {
    "adapter": "norm_tuning",
    "norm_tuning_match": "layernorm",
    "trainer": "plain_sgd",
    "learning_rate": 0.1,
    "data_checks": {"one_rationale": {"level": "warn", "most": 1}},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip installed the example into."""
    source = tmp_path_factory.mktemp("example") / "source"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    target = tmp_path_factory.mktemp("example-site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", target]
    subprocess.run([*pip, source], check=True)
    return target


@pytest.fixture
def recipe(tiny_model: Path, tmp_path: Path) -> Path:
    """A recipe that needs everything the example brings."""
    evaluation = {
        "datasets": [{"path": "test.jsonl", "type": "medqa"}],
        "metrics": [{"type": "first_word", "ignore_case": False}, {"type": "accuracy"}],
        "compare": ["base", "tuned"],
        "max_new_tokens": 4,
        "limit": 3,
    }
    datasets = [{"path": "train.jsonl", "type": "medqa", "with_rationale": True}]
    return write_tiny_recipe(
        tmp_path,
        tiny_model,
        {**VALUES, "datasets": datasets, "evaluation": evaluation},
        rows=ROWS[:8],
        held_out=ROWS[8:],
    )


def tunesmith(*arguments: object, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if site:
        environment["PYTHONPATH"] = str(site)
    command = [sys.executable, "-P", "-m", "core", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_a_recipe_with_every_kind_of_component_runs(installed: Path, recipe: Path) -> None:
    done = tunesmith(recipe, site=installed)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((recipe.parent / "out" / "run.json").read_text(encoding="utf-8"))
    assert len(report["train"]["losses"]) == 3
    assert ["one_rationale", 2] in [[found["check"], found["count"]] for found in report["data"]["audit"]["findings"]]
    assert report["parameters"]["trained"] == 2 * 2 * 32  # two layers, two gains each, of the tiny model's width
    assert {"base", "tuned"} <= set(report["evaluation"])
    assert 0.0 <= report["evaluation"]["tuned"]["first_word"]["value"] <= 1.0


def test_the_plugins_command_lists_it_as_a_distribution_of_its_own(installed: Path) -> None:
    done = tunesmith("plugins", "--json", site=installed)
    assert done.returncode == 0, done.stderr
    plugins = {entry["name"]: entry for entry in json.loads(done.stdout)["plugins"]}
    assert [plugins[name]["distribution"] for name in PLUGINS] == ["tunesmith-example"] * len(PLUGINS)
    assert plugins["norm_tuning"]["offers"]["recipe_keys"][0]["name"] == "norm_tuning_match"


def test_without_it_the_recipe_names_what_is_missing(recipe: Path) -> None:
    done = tunesmith(recipe)
    assert done.returncode == 2, done.stdout + done.stderr
    for name in ("medqa", "norm_tuning", "norm_tuning_match", "plain_sgd", "first_word", "one_rationale"):
        assert f"'{name}'" in done.stderr
    assert "plugin" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (recipe.parent / "out").exists()


@pytest.mark.parametrize("name", PLUGINS)
def test_conformance(
    name: str, installed: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(installed))
    module = import_module(f"tunesmith_example.{name}")
    checked = check_plugin(module, model=tiny_model, folder=tmp_path, rows={"medqa": ROWS[0]})
    assert len(checked) > 1
