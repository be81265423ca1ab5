"""Reading a recipe: values, places, overrides, and files that are refused before anything is built from them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from core.errors import Position, RecipeError
from core.overrides import COMMAND_LINE
from core.recipe import Recipe, load_recipe
from core.yaml_nodes import MAX_NODES, resolve_scalar


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, text: str, *overrides: str) -> Recipe:
    return load_recipe(write(folder, text), overrides)


def refusal(folder: Path, text: str | bytes, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(folder, text), overrides)
    assert all(problem.position for problem in caught.value.problems)
    return caught.value.problems[0].message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5),
        ("1E+3", 1000.0),
        ("1.0e-4", 1e-4),
        (".5", 0.5),
        ("-7", -7),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0o17", 15),
        (".inf", math.inf),
        ("yes", True),
        ("Off", False),
        ("TRUE", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("yEs", "yEs"),
        ("y", "y"),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("6299b5a", "6299b5a"),
        ("e5", "e5"),
        ("-", "-"),
        (".", "."),
        ("1.2.3", "1.2.3"),
        ("9" * 200, "9" * 200),
    ],
)
def test_an_unquoted_scalar_means_what_it_looks_like(text: str, value: object) -> None:
    assert resolve_scalar(text) == value
    assert type(resolve_scalar(text)) is type(value)


def test_a_leading_zero_is_no_number() -> None:
    assert resolve_scalar("010") == "010"
    assert resolve_scalar("007") == "007"


def test_keys_and_values_know_their_places(tmp_path: Path) -> None:
    recipe = read(tmp_path, "base_model: x\ndatasets:\n  - path: ä/b\n    type: [a, {c: d}]\n")
    file = str(recipe.path)
    assert recipe.positions[("base_model",)] == (Position(file, 1, 1), Position(file, 1, 13))
    assert recipe.positions[("datasets", 0, "path")] == (Position(file, 3, 5), Position(file, 3, 11))
    assert recipe.positions[("datasets", 0, "type", 1, "c")] == (Position(file, 4, 16), Position(file, 4, 19))


def test_null_unsets_a_key_but_its_place_is_kept(tmp_path: Path) -> None:
    recipe = read(tmp_path, "base_model: x\nlora_r:\nnested:\n  a: null\n  b: 1\nitems: [null, {c: ~}]\n")
    assert recipe.values == {"base_model": "x", "nested": {"b": 1}, "items": [None, {}]}
    assert ("lora_r",) in recipe.positions
    assert "lora_r" not in recipe
    assert recipe["lora_r"] is None


def test_quoted_text_stays_text(tmp_path: Path) -> None:
    assert read(tmp_path, "a: '1'\nb: \"yes\"\nc: !!str 3\nd: |\n  1\n").values == {
        "a": "1",
        "b": "yes",
        "c": "3",
        "d": "1\n",
    }


def test_merge_keys_fill_in_and_own_keys_win(tmp_path: Path) -> None:
    text = (
        "base: &b {path: p, type: t}\nmore: &m {type: m, split: s}\nlist:\n  - {<<: *b, path: own}\n  - <<: [*b, *m]\n"
    )
    first, second = read(tmp_path, text).values["list"]
    assert first == {"path": "own", "type": "t"}
    assert second == {"path": "p", "type": "t", "split": "s"}


def test_a_duplicate_key_is_remembered_with_both_places(tmp_path: Path) -> None:
    recipe = read(tmp_path, "a: 1\nb: 2\na: 3\n")
    (problem,) = recipe.problems
    assert problem.message == "duplicate key 'a', first set on line 1"
    assert problem.position == Position(str(recipe.path), 3, 1)


def test_defaults_are_read_where_the_recipe_is_silent() -> None:
    recipe = Recipe(Path("r.yml"), "", {"a": 1, "m": {"x": 1}}, defaults={"a": 2, "b": 3, "m": {"x": 9, "y": 2}})
    assert (recipe["a"], recipe["b"], recipe["c"]) == (1, 3, None)
    assert recipe["m"] == {"x": 1, "y": 2}
    assert "b" not in recipe


def test_overrides_write_into_lists_and_maps(tmp_path: Path) -> None:
    text = "base_model: x\ndatasets:\n  - {path: a, type: t}\nlora_r: 8\n"
    recipe = read(
        tmp_path,
        text,
        "datasets.0.path=b=c",
        "datasets.1={path: new, type: t}",
        "evaluation.metrics.0.type=latency",
        "lora_r=null",
        "learning_rate=3e-4",
        "modules=[q, v]",
    )
    assert recipe.values == {
        "base_model": "x",
        "datasets": [{"path": "b=c", "type": "t"}, {"path": "new", "type": "t"}],
        "evaluation": {"metrics": [{"type": "latency"}]},
        "learning_rate": 3e-4,
        "modules": ["q", "v"],
    }
    assert recipe.positions[("datasets", 0, "path")] == (Position(COMMAND_LINE, 1, 1), Position(COMMAND_LINE, 1, 17))
    assert ("lora_r",) not in recipe.positions


def test_the_file_is_not_changed_by_an_override_of_a_shared_anchor(tmp_path: Path) -> None:
    recipe = read(tmp_path, "a: &a {x: 1}\nb: *a\n", "b.x=2")
    assert recipe.values == {"a": {"x": 1}, "b": {"x": 2}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rate", "'learning_rate' is not 'key=value'"),
        ("=3", "'=3' is not 'key=value'"),
        ("datasets.7.path=x", "'datasets' is a list of 1, 7 is no place in it"),
        ("datasets.first=x", "'datasets' is a list of 1, 'first' is no place in it"),
        ("base_model.path=x", "'base_model' is 'x', it has no 'path' in it"),
        ("a=[1", "not valid YAML: did not find expected ',' or ']'"),
        ("a=\udcff", "'a=\\udcff' is not UTF-8"),
        ("\udce9=1", "'\\udce9=1' is not UTF-8"),
        ("a=!!python/name:os.system", "the tag '!!python/name:os.system' is not allowed in a recipe"),
    ],
)
def test_an_override_without_a_place_is_refused(tmp_path: Path, override: str, message: str) -> None:
    assert refusal(tmp_path, "base_model: x\ndatasets: [{path: a}]\n", override) == message


def test_all_bad_overrides_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, "a: 1\n", "x", "y")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the recipe is empty"),
        ("---\n", "the recipe is empty"),
        ("null\n", "the recipe is empty"),
        ("- a\n", "a recipe is a map of keys, this is a list"),
        ("a: b: c\n", "not valid YAML: mapping values are not allowed in this context"),
        (b"a: \xff\n", "byte 0xff is not UTF-8"),
        ("a: 1\n".encode("utf-16"), "byte 0xff is not UTF-8"),
        ("a: \x00\n", "not valid YAML: character '\\x00' is not allowed"),
        ("a: &a [*a]\n", "alias '*a' contains itself"),
        ("a: " + "[" * 100_000, "nested more than 40 levels deep"),
        ("- " * 100_000, "nested more than 40 levels deep"),
        ("a: !!binary aGk=\n", "the tag '!!binary' is not allowed in a recipe"),
        ("a: !!int x\n", "'x' is not of the tagged type '!!int'"),
        ("a: &x 1\n<<: *x\n", "the merge key '<<' needs a map or a list of maps"),
        ("x" * 1_000_001, "the file has 1,000,001 bytes, a recipe at most 1,000,000"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert refusal(tmp_path, text) == message


def test_aliases_that_multiply_are_cut_off(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"] + [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert refusal(tmp_path, "\n".join(lines)) == f"aliases expand to more than {MAX_NODES} values"


def test_merge_keys_that_multiply_are_cut_off(tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12)]
    assert "merge keys" in refusal(tmp_path, "\n".join(lines))


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "a: 1\n".encode("utf-8-sig"))).values == {"a": 1}


def test_a_missing_file_lists_the_recipes_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "a: 1\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "recipes.yml")
    (problem,) = caught.value.problems
    assert problem.message == "no such recipe"
    assert problem.help == "recipes in that folder: recipe.yml"


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="this is a folder") as caught:
        load_recipe(tmp_path)
    assert caught.value.problems[0].help == "name a .yml file; this folder has none"
