"""Recipes in packages: found without running the package's code, named `package:recipe`, and kept inside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.check import check_recipe
from core.cli import main
from core.diagnostics import render_problems
from core.errors import RecipeError, UserError
from core.host import load_host
from core.recipe import Recipe, load_recipe
from core.sharing.packages import describe, find_packaged, recipe_packages


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`team_recipes`, installed with an entry point; importing it would be an error."""
    site = tmp_path / "site"
    root = site / "team_recipes"
    (root / "med").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (root / "llama-lora.yml").write_text(
        "# yaml-language-server: $schema=x.json\n\n# LoRA for our clinic.\n# More.\n"
        "base_model: org/model\nadapter: lora\ndatasets:\n  - path: med/train.jsonl\n    type: alpaca\n"
    )
    (root / "med" / "train.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (root / "med" / "inner.yml").write_text("extends: ../llama-lora.yml\nlora_r: 4\n")
    information = site / "team_med-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: team-med\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text("[tunesmith.recipes]\nteam-med = team_recipes\n")
    monkeypatch.syspath_prepend(str(site))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return root


def problems(text: str) -> str:
    Path("recipe.yml").write_text(text)
    try:
        recipe = load_recipe(Path("recipe.yml"))
    except RecipeError as error:
        return render_problems(error.problems, error.recipe or Recipe(Path("recipe.yml"), "", {}), colour=False)
    return render_problems(check_recipe(recipe, load_host()), recipe, colour=False)


def test_a_base_in_a_package_keeps_its_own_folder(package: Path) -> None:
    Path("recipe.yml").write_text("extends: package://team_recipes/med/inner.yml\nlora_r: 2\n")
    recipe = load_recipe(Path("recipe.yml"))
    assert recipe.values["lora_r"] == 2
    assert recipe.folder_of(("datasets", 0, "path")) == package
    assert check_recipe(recipe, load_host()) == []


def test_a_recipe_is_named_by_package(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_recipe(Path("team-med:llama-lora")).path == package / "llama-lora.yml"
    assert main(["check", "team-med:llama-lora"]) == 0
    assert capsys.readouterr().out == "team-med:llama-lora: ok (3 keys, 0 warnings)\n"
    assert main(["show", "team-med:llama-lora", "--set", "lora_r=3"]) == 0
    assert main(["diff", "team-med:llama-lora", str(package / "med" / "inner.yml")]) == 1


def test_our_own_recipes_are_there_installed_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    found = find_packaged("tunesmith:quickstart")
    assert found is not None
    assert found[0] == Path(__file__).parents[3] / "recipes" / "quickstart.yml"
    assert main(["check", "tunesmith:quickstart"]) == 0


def test_a_file_of_that_name_comes_first(package: Path) -> None:
    Path("team-med:llama-lora").write_text("seed: 1\n")
    assert load_recipe(Path("team-med:llama-lora")).values == {"seed": 1}


@pytest.mark.parametrize(
    ("name", "message", "help"),
    [
        ("team-me:llama-lora", "no package of recipes is called 'team-me'", "did you mean 'team-med'?"),
        ("team-med:llama-lor", "the package 'team-med' has no recipe 'llama-lor'", "did you mean 'llama-lora'?"),
        ("elsewhere:x", "no package of recipes is called 'elsewhere'", "there are: tunesmith, team-med"),
    ],
)
def test_a_name_that_no_package_has(package: Path, name: str, message: str, help: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(Path(name))
    assert caught.value.message == message
    assert str(caught.value.help).startswith(help)


@pytest.mark.parametrize("name", ["recipe.yml", "a:b.yml", "C:\\x\\r.yml", "x/y:z", ":x", "x:"])
def test_other_texts_are_file_names(name: str) -> None:
    assert find_packaged(name) is None


def test_recipes_are_listed_with_what_they_are_for(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    shown = capsys.readouterr().out
    assert "team-med 1.2\n  team-med:llama-lora" in shown
    assert "LoRA for our clinic.\n" in shown
    assert "  tunesmith:quickstart " in shown
    assert main(["recipes", "--json"]) == 0
    packages = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["packages"]}
    (recipe,) = packages["team-med"]["recipes"]
    assert recipe["name"] == "team-med:llama-lora"
    assert recipe["description"] == "LoRA for our clinic."


def test_every_recipe_of_ours_says_what_it_is_for() -> None:
    (own, *_) = recipe_packages()
    assert len(own.recipes()) >= 4
    assert [name for name, file in own.recipes().items() if not describe(file)] == []


def test_a_package_that_is_gone_is_listed_with_what_is_wrong(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package.rename(package.with_name("renamed"))
    assert main(["recipes"]) == 0
    assert "team-med: its package 'team_recipes' cannot be found" in capsys.readouterr().out
    with pytest.raises(UserError, match="which is not there"):
        load_recipe(Path("team-med:llama-lora"))


def test_two_distributions_of_one_name_are_both_told(package: Path) -> None:
    information = package.parent / "other_med-2.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: other-med\nVersion: 2.0\n")
    (information / "entry_points.txt").write_text("[tunesmith.recipes]\nteam-med = other\n")
    with pytest.raises(UserError) as caught:
        recipe_packages()
    assert "team-med" in caught.value.message
    assert "other-med" in caught.value.message


def test_a_packaged_recipe_names_nothing_outside_its_package(package: Path) -> None:
    Path(package.parent / "outside.jsonl").write_text("{}\n")
    (package / "bad.yml").write_text(
        "base_model: ~/model\n"
        "output_dir: /srv/out\n"
        "datasets:\n"
        "  - {path: ../outside.jsonl, type: alpaca}\n"
        "  - {path: med/../../outside.jsonl, type: alpaca}\n"
        "  - {path: med/../med/train.jsonl, type: alpaca}\n"
        "  - {path: org/data, type: alpaca, data_files: [../../x.json]}\n"
        "evaluation:\n  metrics: [{type: format_compliance, json_schema: /etc/hostname}]\n"
    )
    text = problems("extends: package://team_recipes/bad.yml\n")
    for line, path in (
        ("1:13", "~/model"),
        ("2:13", "/srv/out"),
        ("4:12", "../outside.jsonl"),
        ("5:12", "med/../../outside.jsonl"),
        ("7:49", "../../x.json"),
        ("9:52", "/etc/hostname"),
    ):
        assert f"{package}/bad.yml:{line}: error: {path!r} points outside the package 'team_recipes'" in text
    assert text.count("points outside") == 6
    assert "extended by recipe.yml:1" in text


@pytest.mark.parametrize("base", ["../outside.yml", "/etc/passwd", "~/x.yml", "med/../../outside.yml"])
def test_a_packaged_recipe_extends_nothing_outside_its_package(package: Path, base: str) -> None:
    (package.parent / "outside.yml").write_text("seed: 1\n")
    (package / "bad.yml").write_text(f"extends: {base}\n")
    text = problems("extends: package://team_recipes/bad.yml\n")
    assert f"{package}/bad.yml:1:10: error: {base!r} points outside the package 'team_recipes'" in text


def test_what_the_person_running_it_adds_is_free(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = package.parent / "outside.jsonl"
    data.write_text('{"instruction": "a", "output": "b"}\n')
    (package / "open.yml").write_text(
        "base_model: org/model\ndatasets: [{path: '${DATA_DIR}/outside.jsonl', type: alpaca}]\n"
    )
    monkeypatch.setenv("DATA_DIR", str(data.parent))
    assert problems("extends: package://team_recipes/open.yml\n") == "no problems"
    Path("recipe.yml").write_text("extends: package://team_recipes/llama-lora.yml\n")
    recipe = load_recipe(Path("recipe.yml"), [f"datasets.0.path={data}"])
    assert check_recipe(recipe, load_host()) == []
    (package / "open.yml").write_text(
        "base_model: org/model\ndatasets: [{path: '${DATA_DIR}/../outside.jsonl', type: alpaca}]\n"
    )
    assert "points outside the package" in problems("extends: package://team_recipes/open.yml\n")
