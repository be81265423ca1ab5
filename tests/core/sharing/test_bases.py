"""`extends`: what is merged, where values and problems stand, and bases that are refused."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from core.check import check_recipe
from core.diagnostics import render_problems
from core.errors import Position, RecipeError
from core.host import Host, load_host
from core.recipe import Recipe, load_recipe
from core.sharing.bases import MAX_DEPTH, MAX_FILES
from core.sharing.files import MAX_BYTES
from tests.core.sharing.making import write


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(name: str = "recipe.yml", *overrides: str) -> Recipe:
    return load_recipe(Path(name), overrides)


def refused(name: str = "recipe.yml") -> str:
    """What is printed for a recipe that cannot be read."""
    with pytest.raises(RecipeError) as caught:
        load(name)
    assert caught.value.recipe is not None
    assert all(problem.position for problem in caught.value.problems)
    return render_problems(caught.value.problems, caught.value.recipe, colour=False)


def test_maps_merge_lists_and_scalars_replace_and_null_unsets() -> None:
    write(
        base="seed: 1\nlora_r: 8\nspecial_tokens: {pad_token: p, eos_token: e}\n"
        "eot_tokens: [a, b]\nevaluation: {limit: 3}\n",
        recipe="extends: base.yml\nseed: 2\nlora_r: null\n"
        "special_tokens: {eos_token: ~, bos_token: b}\neot_tokens: [c]\n",
    )
    assert load().values == {
        "seed": 2,
        "special_tokens": {"pad_token": "p", "bos_token": "b"},
        "eot_tokens": ["c"],
        "evaluation": {"limit": 3},
    }


def test_later_bases_win_over_earlier_and_the_file_over_all() -> None:
    write(
        one="a: 1\nb: 1\nc: 1\nd: 1\n",
        two="extends: deep/three.yml\na: 2\nb: 2\n",
        deep__three="b: 3\nc: 3\n",
        recipe="extends:\n  - one.yml\n  - ./two.yml\na: 0\n",
    )
    assert load().values == {"a": 0, "b": 2, "c": 3, "d": 1}
    assert list(load().sources) == ["recipe.yml", "one.yml", "two.yml", "deep/three.yml"]


def test_a_null_in_a_later_base_unsets_what_an_earlier_one_set() -> None:
    write(one="a: 1\n", two="a:\nb: 1\n", recipe="extends: [one.yml, two.yml]\n")
    assert load().values == {"b": 1}


def test_every_value_keeps_its_place() -> None:
    write(
        team__base="seed: 1\nspecial_tokens:\n  pad_token: p\n  eos_token: e\neot_tokens: [x, y]\n",
        recipe="extends: team/base.yml\nspecial_tokens:\n  eos_token: f\n",
    )
    positions = load("recipe.yml", "seed=3").positions
    assert positions[("seed",)][1].file == "--set"
    assert positions[("special_tokens", "pad_token")][1] == Position("team/base.yml", 3, 14)
    assert positions[("special_tokens", "eos_token")][1] == Position("recipe.yml", 3, 14)
    assert positions[("eot_tokens", 1)][1] == Position("team/base.yml", 5, 17)
    assert ("extends",) not in positions


def test_a_replaced_list_leaves_no_places_behind() -> None:
    write(base="a: [{x: 1}, 2]\nb: {c: {d: 1}}\n", recipe="extends: base.yml\na: [1]\nb: 3\n")
    assert {path for path in load().positions if path} == {("a",), ("a", 0), ("b",)}


def test_requirements_of_all_files_add_up() -> None:
    write(
        base="requires: [one, two]\n",
        middle="extends: base.yml\nrequires:\n  - three\n",
        recipe="extends: middle.yml\nrequires: [four]\n",
        without="extends: middle.yml\nrequires: null\n",
    )
    recipe = load()
    assert recipe.values["requires"] == ["one", "two", "three", "four"]
    files = [recipe.positions[("requires", index)][1] for index in range(4)]
    assert files == [
        Position("base.yml", 1, 12),
        Position("base.yml", 1, 17),
        Position("middle.yml", 3, 5),
        Position("recipe.yml", 2, 12),
    ]
    assert load("without.yml").values == {}


def test_one_base_by_two_ways_is_no_circle() -> None:
    write(root="a: 1\nb: 1\n", left="extends: root.yml\nb: 2\n", right="extends: root.yml\nc: 3\n")
    write(recipe="extends: [left.yml, right.yml]\n")
    assert load().values == {"a": 1, "b": 1, "c": 3}


def test_a_problem_in_a_base_is_shown_there_with_the_chain(host: Host) -> None:
    write(
        team__rates="# rates\nlearning_rate: fast\nlora_rank: 3\n",
        team__base="seed: 1\nextends: rates.yml\n",
        recipe="extends: [team/base.yml]\nbase_model: org/model\ndatasets: [{path: org/data, type: alpaca}]\n",
    )
    recipe = load()
    text = render_problems(check_recipe(recipe, host), recipe, colour=False)
    assert "team/rates.yml:2:16: error: 'learning_rate' is the text 'fast', expected a number" in text
    assert "    learning_rate: fast\n                   ^^^^\n" in text
    assert "    extended by team/base.yml:2, recipe.yml:1\n" in text
    assert "team/rates.yml:3:1: error: unknown key 'lora_rank'\n    lora_rank: 3\n" in text


def test_a_duplicate_key_in_a_base_is_told(host: Host) -> None:
    write(base="seed: 1\nseed: 2\n", recipe="extends: base.yml\n")
    (problem,) = load().problems
    assert problem.position == Position("base.yml", 2, 1)


def test_all_broken_bases_are_told_at_once() -> None:
    write(
        list="- a\n",
        syntax="a: b: c\n",
        empty="# nothing\n",
        tag="a: !!python/object/apply:os.system [touch owned]\n",
        bomb="\n".join(["a0: &a0 [x,x,x,x]"] + [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]),
        recipe="extends: [list.yml, syntax.yml, missing.yml, empty.yml, tag.yml, bomb.yml]\n",
    )
    Path("binary.yml").write_bytes(b"a: \xff\xfe\n")
    with Path("large.yml").open("wb") as large:
        large.truncate(200_000_000)
    write(more="extends: [recipe.yml, binary.yml, large.yml, .]\n")
    text = refused("more.yml")
    for line in (
        "list.yml:1:1: error: a recipe is a map of keys, this is a list",
        "syntax.yml:1:5: error: not valid YAML",
        "recipe.yml:1:33: error: no such recipe: 'missing.yml'",
        "empty.yml:1:1: error: the recipe is empty",
        "tag.yml:1:4: error: the tag '!!python/object/apply:os.system' is not allowed",
        "error: aliases expand to more than",
        "binary.yml:1:4: error: byte 0xff is not UTF-8",
        "large.yml:1:1: error: the file has 200,000,000 bytes, a recipe at most 1,000,000",
        ".:1:1: error: this is a folder, not a recipe",
    ):
        assert line in text, text
    assert text.endswith("9 errors")
    assert "extended by recipe.yml:1, more.yml:1" in text
    assert not Path("owned").exists()


def test_a_large_base_is_refused_by_its_size_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    write(recipe="extends: large.yml\n")
    with Path("large.yml").open("wb") as large:
        large.truncate(MAX_BYTES + 1)
    opened = Path.open

    def open_small(path: Path, *arguments: object) -> object:
        assert path.name != "large.yml"
        return opened(path, *arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", open_small)
    assert "1,000,001 bytes" in refused()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_and_devices_are_not_read() -> None:
    os.mkfifo("pipe.yml")
    write(recipe="extends: [pipe.yml, /dev/zero]\n")
    assert refused().count("this is a device or a pipe, not a recipe") == 2


def test_a_circle_is_shown_whole() -> None:
    write(a="extends: b.yml\n", b="extends: c.yml\nseed: 1\n", c="extends: ./b.yml\n")
    text = refused("a.yml")
    assert "c.yml:1:10: error: a recipe cannot extend itself: b.yml → c.yml → b.yml" in text
    assert "extended by b.yml:1, a.yml:1" in text
    write(self="extends: self.yml\n")
    assert "self.yml → self.yml" in refused("self.yml")


def test_a_circle_by_a_link_is_seen() -> None:
    write(a="extends: link.yml\n")
    Path("link.yml").symlink_to("a.yml")
    assert "a recipe cannot extend itself: a.yml → a.yml" in refused("a.yml")


def test_the_depth_is_limited() -> None:
    for number in range(MAX_DEPTH + 1):
        write(**{f"r{number}": f"extends: r{number + 1}.yml\n"})
    write(**{f"r{MAX_DEPTH + 1}": "seed: 1\n"})
    text = refused("r0.yml")
    assert f"bases nest more than {MAX_DEPTH} deep: r0.yml → r1.yml →" in text
    assert load("r1.yml").values == {"seed": 1}


def test_the_number_of_files_is_limited() -> None:
    names = [f"b{number}" for number in range(MAX_FILES + 1)]
    write(**dict.fromkeys(names, "seed: 1\n"))
    write(recipe=f"extends: [{', '.join(f'{name}.yml' for name in names)}]\n")
    assert f"a recipe of more than {MAX_FILES} files" in refused()


def test_bases_that_multiply_are_read_once_each() -> None:
    for level in range(9):
        below = ", ".join([f"l{level + 1}.yml"] * 20)
        write(**{f"l{level}": f"extends: [{below}]\n"})
    write(l9="seed: 1\n")
    assert load("l0.yml").values == {"seed": 1}


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("3", "'extends' names no recipe: 3 is neither an address nor a map with one"),
        ("[a.yml, [b]]", "'extends' names no recipe: ['b'] is neither"),
        ("''", "'extends' names no recipe: ''"),
        ("http://host/r.yml", "'http://host/r.yml' is not secure: http is refused"),
        ("https://host/r.yml", "an https base needs the sha256 of its content: 'https://host/r.yml'"),
        ("{url: https://host/r.yml}", "an https base needs the sha256 of its content"),
        ("{url: http://host/r.yml, sha256: 00}", "http is refused"),
        ("{url: https://host/r.yml, sha256: abc}", "'abc' is no sha256"),
        ("{url: 'https://me:pw@host/r.yml', sha256: abc}", "the address at host holds a user name or password"),
        ("{url: ftp://host/r.yml, sha256: abc}", "'ftp://host/r.yml' is no https address"),
        ("{url: https://host/r.yml, sha: abc}", "unknown key 'sha' in 'extends'"),
        ("{url: 'https://[x', sha256: abc}", "'https://[x' is no https address"),
        ('"https://host/\\e[2J"', "'extends' holds a character that no address has"),
        ('"a\\nb.yml"', "'extends' holds a character that no address has"),
        (f"hf://../repo/r.yml@{'0' * 40}", "cannot be fetched"),
        ("{sha256: abc}", "'extends' has no url"),
        ("file:///etc/passwd", "file:// is not known"),
        ("s3://bucket/r.yml", "s3:// is not known"),
        ("hf://org/repo/r.yml", "'hf://org/repo/r.yml' names no commit"),
        ("hf://org/repo/r.yml@main", "'main' is no commit: a branch or tag can change under a recipe"),
        ("hf://org/repo/r.yml@0123abc", "'0123abc' is no commit"),
        (f"hf://org/repo/../r.yml@{'0' * 40}", "points outside the repository"),
        (f"hf://org@{'0' * 40}", "is no address of a file on the hub"),
        ("package://", "'package://' is no address in a package"),
        ("package://os.path/x.yml", "is no address in a package"),
        ("package://no_such_package_here/x.yml", "the package 'no_such_package_here' is not installed"),
        ("package://recipes/no.yml", "the package 'recipes' has no file 'no.yml'"),
        ("package://recipes/../x.yml", "points outside the package 'recipes'"),
        ("${HOME}/base.yml", "variables are not allowed in 'extends'"),
        ("missing.yml", "no such recipe: 'missing.yml'"),
        ('"a\\0b"', "'extends' holds a character that no address has"),
        ("x" * 5000 + "/y.yml", "no such recipe"),
        ("~nobody-at-all/x.yml", "no such recipe"),
    ],
)
def test_an_address_that_cannot_be_followed_is_told_where_it_stands(extends: str, message: str) -> None:
    write(recipe=f"seed: 1\nextends: {extends}\n")
    text = refused()
    assert message in text
    assert text.startswith("recipe.yml:2:")
    assert "help: " in text


def test_extends_is_no_key_to_set() -> None:
    write(recipe="seed: 1\n", base="lora_r: 2\n")
    with pytest.raises(RecipeError, match="'extends' cannot be set on the command line"):
        load("recipe.yml", "extends=base.yml")


def test_paths_start_at_the_file_that_wrote_them(folder: Path) -> None:
    write(
        team__base="base_model: model\ndatasets: [{path: train.jsonl, type: alpaca}]\n",
        recipe="extends: team/base.yml\ntest_datasets: [{path: test.jsonl, type: alpaca}]\n",
    )
    recipe = load("recipe.yml", "datasets.0.split=train", "evaluation.datasets.0.path=x.jsonl")
    assert recipe.folder_of(("base_model",)) == Path("team")
    assert recipe.folder_of(("datasets", 0, "path")) == Path("team")
    assert recipe.folder_of(("test_datasets", 0, "path")) == Path()
    assert recipe.folder_of(("evaluation", "datasets", 0, "path")) == Path()
    assert recipe.folder_of(("output_dir",)) == Path()


def test_a_file_missing_beside_a_base_is_told_there(host: Host) -> None:
    write(
        team__base="datasets: [{path: train.jsonl, type: alpaca}, {path: here.jsonl, type: alpaca}]\n",
        recipe="extends: team/base.yml\nbase_model: org/model\n",
    )
    Path("team/here.jsonl").write_text("{}\n")
    (problem,) = check_recipe(load(), host)
    assert problem.message == "no such file: 'train.jsonl'"
    assert str(problem.position) == "team/base.yml:1:19"
    # beside the base first, then in the working folder
    Path("train.jsonl").write_text("{}\n")
    assert check_recipe(load(), host) == []


def test_a_recipe_of_five_files_is_checked_without_anything_heavy() -> None:
    for number in range(4):
        write(**{f"team__b{number}": f"seed: {number}\n"})
    write(
        recipe=f"extends: [{', '.join(f'team/b{number}.yml' for number in range(4))}]\nbase_model: org/model\n"
        "datasets: [{path: org/data, type: alpaca}]\n"
    )
    program = (
        "import sys\nfrom core.cli import main\ncode = main(['check', 'recipe.yml'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'huggingface_hub', 'urllib.request', 'ssl'}"
        "\nsys.exit(f'imported {heavy & set(sys.modules)}' if heavy & set(sys.modules) else code)"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "recipe.yml: ok (3 keys, 0 warnings)\n"


def test_random_bases_are_read_or_refused_with_a_place(host: Host) -> None:
    """Bytes, keys and addresses at random: never a traceback, never a problem without a place."""
    chance = random.Random(3)
    texts = [
        "seed: 1",
        "extends: b.yml",
        "extends: [b.yml, c.yml]",
        "a: &x [*x]",
        "{",
        "- 1",
        "seed: null",
        "requires: [x]",
    ]
    texts += [
        "output_dir: ${HOME}/x",
        "extends: {url: https://h/x, sha256: 1}",
        "extends: package://recipes/x",
        "\t",
        "é: 1",
    ]
    refused_files = read_files = 0
    for _ in range(150):
        for name in ("a", "b", "c"):
            content = "\n".join(chance.sample(texts, chance.randint(1, 3))).encode()
            if chance.random() < 0.2:
                content = bytes(chance.choice(b"\x00\xff{}[]:&*!|>'\"%@ \n") for _ in range(12)) + content
            Path(f"{name}.yml").write_bytes(content)
        try:
            problems = check_recipe(load("a.yml"), host)
            read_files += 1
        except RecipeError as error:
            problems = list(error.problems)
            refused_files += 1
            assert problems
        assert all(problem.position for problem in problems)
    assert refused_files > 20
    assert read_files > 20
