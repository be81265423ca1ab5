"""A real YAML language server over a recipe, with the schema that `tunesmith schema` prints, plugins included."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tests" / "example_plugin"
VARIABLE = "TUNESMITH_YAML_LS"
RECIPE = """\
# yaml-language-server: $schema=recipe.schema.json
base_model: ./model
adapter: norm_tuning
norm_tuning_match: layernorm
datasets:
  - path: questions.jsonl
    type: medqa
    with_rationale: true
"""


def command() -> list[str]:
    """How the server is started; the tests are skipped where it is not found."""
    found = os.environ.get(VARIABLE) or shutil.which("yaml-language-server")
    if not found or not Path(found).is_file():
        pytest.skip(
            f"yaml-language-server is not found on the path or in {VARIABLE}: docs/editors.md says how to get it"
        )
    node = shutil.which("node")
    if not node:
        pytest.skip("yaml-language-server needs node, which is not installed")
    return [node, found, "--stdio"]


def language_server() -> Any:
    """The client beside this file; tests are imported by path, so it is as well."""
    spec = spec_from_file_location("language_server", Path(__file__).with_name("language_server.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.LanguageServer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the schema as it is where the example plugin is installed."""
    command()
    source = tmp_path_factory.mktemp("example") / "source"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    site, work = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("work")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site]
    subprocess.run([*pip, source], check=True)
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "core", "schema"], capture_output=True, text=True, env=variables, check=True
    )
    (work / "recipe.schema.json").write_text(done.stdout)
    return work


@pytest.fixture
def server(folder: Path) -> Iterator[Any]:
    with language_server()(command(), folder) as running:
        yield running


def place(text: str, part: str, offset: int = 0) -> tuple[int, int]:
    """Line and column, from 0, of `part` in `text`."""
    start = text.index(part)
    return text.count("\n", 0, start), start - (text.rfind("\n", 0, start) + 1) + offset


def test_a_right_recipe_is_not_underlined(server: Any, folder: Path) -> None:
    assert server.open(folder / "recipe.yml", RECIPE) == []


def test_what_is_needed_may_stand_in_a_base(server: Any, folder: Path) -> None:
    first = RECIPE.splitlines()[0]
    assert server.open(folder / "a.yml", f"{first}\nextends: base.yml\nlearning_rate: 1e-4\n") == []
    found = server.open(folder / "b.yml", f"{first}\nlearning_rate: 1e-4\n")
    assert {"base_model" in entry["message"] or "datasets" in entry["message"] for entry in found} == {True}


def test_a_typo_is_underlined_where_it_is(server: Any, folder: Path) -> None:
    text = RECIPE.replace("norm_tuning_match", "norm_tunning_match").replace("with_rationale", "with_rational")
    found = server.open(folder / "recipe.yml", text)
    starts = {(entry["range"]["start"]["line"], entry["range"]["start"]["character"]) for entry in found}
    assert {place(text, "norm_tunning_match"), place(text, "with_rational")} <= starts
    assert any("norm_tunning_match" in entry["message"] for entry in found)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("adapter: norm_tuning", "adapter: norm_tunin"),
        ("with_rationale: true", "with_rationale: 3"),
        ("type: medqa", "type: medqu"),
    ],
)
def test_a_wrong_value_is_underlined(right: str, wrong: str, server: Any, folder: Path) -> None:
    text = RECIPE.replace(right, wrong)
    found = server.open(folder / "recipe.yml", text)
    line = place(text, wrong)[0]
    assert line in {entry["range"]["start"]["line"] for entry in found}, found


def test_completion_offers_the_plugins_keys(server: Any, folder: Path) -> None:
    text = RECIPE.replace("norm_tuning_match: layernorm\n", "norm_\n")
    server.open(folder / "recipe.yml", text)
    offered = server.complete(*place(text, "norm_\n", offset=5))
    assert "norm_tuning_match" in offered
    assert "contains this" in json.dumps(offered["norm_tuning_match"])
    assert "learning_rate" in offered


def test_completion_offers_names_of_components(server: Any, folder: Path) -> None:
    text = RECIPE.replace("adapter: norm_tuning\n", "adapter: \n")
    server.open(folder / "recipe.yml", text)
    assert {"norm_tuning", "lora", "qlora", "full"} <= set(server.complete(*place(text, "adapter: \n", offset=9)))


def test_completion_offers_a_formats_options(server: Any, folder: Path) -> None:
    text = RECIPE.replace("    with_rationale: true\n", "    wi\n")
    server.open(folder / "recipe.yml", text)
    assert "with_rationale" in server.complete(*place(text, "    wi\n", offset=6))


def test_our_own_recipes_are_not_underlined(server: Any) -> None:
    """With the schema that their first line names: the committed one."""
    recipes = sorted((ROOT / "recipes").glob("*.yml"))
    assert len(recipes) > 3
    for recipe in recipes:
        text = recipe.read_text(encoding="utf-8")
        assert text.startswith("# yaml-language-server: $schema="), recipe.name
        assert server.open(recipe, text) == [], recipe.name


def test_hover_explains_keys_of_core_and_of_the_plugin(server: Any, folder: Path) -> None:
    server.open(folder / "recipe.yml", RECIPE)
    assert "trains the parameters whose name contains this" in server.hover(
        *place(RECIPE, "norm_tuning_match", offset=3)
    )
    assert "The model to tune" in server.hover(*place(RECIPE, "base_model", offset=3))
    assert "Train on the rationale too" in server.hover(*place(RECIPE, "with_rationale", offset=3))
