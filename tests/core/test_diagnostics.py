"""Golden texts of what a user sees for each mistake, and the parts of a message that depend on the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.check import check_recipe
from core.diagnostics import counts, render_problems
from core.errors import Position, Problem, RecipeError
from core.host import Host, load_host
from core.recipe import Recipe, load_recipe

GOLDEN = Path(__file__).parents[1] / "diagnostics"
CASES = sorted(GOLDEN.glob("*.yml"))
MARK = "# --set "


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


def diagnose(path: Path, host: Host) -> str:
    """What the recipe prints; lines `# --set key=value` at its top are overrides."""
    overrides = [
        line.removeprefix(MARK) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(MARK)
    ]
    try:
        recipe = load_recipe(path, overrides)
    except RecipeError as error:
        return render_problems(error.problems, error.recipe or Recipe(path, "", {}, overrides=tuple(overrides)))
    return render_problems(check_recipe(recipe, host), recipe)


def test_there_are_many_mistakes_to_try() -> None:
    assert len(CASES) >= 60
    assert {case.stem for case in CASES} == {case.stem for case in GOLDEN.glob("*.txt")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_each_mistake_reads_as_agreed(case: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    text = diagnose(Path(case.name), host).replace(str(GOLDEN), "FOLDER")
    assert text + "\n" == case.with_suffix(".txt").read_text(encoding="utf-8")


def test_nothing_is_run_by_a_tag(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    diagnose(GOLDEN / "tag-python-object.yml", host)
    assert list(tmp_path.iterdir()) == []


def test_colours_only_where_asked() -> None:
    recipe = Recipe(
        Path("r.yml"), "seed: x\n", {"seed": "x"}, {("seed",): (Position("r.yml", 1, 1), Position("r.yml", 1, 7))}
    )
    problem = Problem("'seed' is the text 'x'", key=("seed",), at="value")
    assert "\x1b" not in render_problems([problem], recipe, colour=False)
    coloured = render_problems([problem], recipe, colour=True)
    assert "\x1b[1;31merror:\x1b[0m" in coloured


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in render_problems([Problem("m")], Recipe(Path("r.yml"), "a: 1\n", {"a": 1}))


def test_control_characters_of_the_recipe_do_not_reach_the_terminal() -> None:
    recipe = Recipe(Path("r.yml"), "a: '\x1b[2J'\n", {"a": 1})
    assert "\x1b" not in render_problems([Problem("bad \x1b[2J")], recipe, colour=False)


def test_a_long_line_is_cut_around_the_spot() -> None:
    text = f"key: [{', '.join(['abc'] * 200)}, 'here']"
    place = Position("r.yml", 1, text.index("'here'") + 1)
    rendered = render_problems([Problem("m", position=place)], Recipe(Path("r.yml"), text, {}), colour=False)
    source, carets = rendered.splitlines()[1:3]
    assert source[carets.index("^") :].startswith("'here'")
    assert carets.count("^") == len("'here'")
    assert len(source) < 130


def test_the_counts_use_the_right_number() -> None:
    warning = Problem("w", severity="warning")
    assert counts([Problem("a")]) == "1 error"
    assert counts([Problem("a"), Problem("b"), warning]) == "2 errors, 1 warning"
    assert counts([warning, warning]) == "2 warnings"
