"""The quickstart's ICD-10-CM data: what the files hold, and that the script makes exactly these files."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

FOLDER = Path(__file__).parents[2] / "recipes" / "icd10"
FILES = ("train.jsonl", "validation.jsonl", "test.jsonl", "answer.schema.json")
SPECIAL = "Codes for special purposes"  # a chapter of three codes


def read_rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def train() -> list[dict[str, str]]:
    return read_rows("train.jsonl")


@pytest.fixture(scope="module")
def validation() -> list[dict[str, str]]:
    return read_rows("validation.jsonl")


@pytest.fixture(scope="module")
def held_out() -> list[dict[str, str]]:
    return read_rows("test.jsonl")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "answer.schema.json").read_text("utf-8"))
    return loaded


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("icd10_build", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


def chapter(row: dict[str, str]) -> str:
    title = json.loads(row["output"])["chapter"]
    assert isinstance(title, str)
    return title


def test_rows_are_alpaca_with_one_constant_instruction(
    train: list[dict[str, str]], held_out: list[dict[str, str]]
) -> None:
    for row in train + held_out:
        assert list(row) == ["instruction", "input", "output"]
        assert row["input"] == " ".join(row["input"].split()) != ""
        assert row["output"] == json.dumps({"chapter": chapter(row)}, ensure_ascii=False)
    assert len({row["instruction"] for row in train + held_out}) == 1


def test_the_instruction_does_not_give_the_titles_away(held_out: list[dict[str, str]], schema: dict[str, Any]) -> None:
    for title in schema["properties"]["chapter"]["enum"]:
        assert title not in held_out[0]["instruction"]


def test_every_answer_satisfies_the_schema(
    train: list[dict[str, str]], held_out: list[dict[str, str]], schema: dict[str, Any]
) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for row in train + held_out:
        validator.validate(json.loads(row["output"]))


@pytest.mark.parametrize(
    "answer",
    [{}, {"chapter": "Neoplasm"}, {"chapter": 2}, {"chapter": "Neoplasms", "code": "C80"}, "Neoplasms", []],
)
def test_the_schema_refuses_other_answers(schema: dict[str, Any], answer: Any) -> None:
    assert not jsonschema.Draft202012Validator(schema).is_valid(answer)


def test_titles_are_the_22_chapters_without_their_code_ranges(schema: dict[str, Any]) -> None:
    titles = schema["properties"]["chapter"]["enum"]
    assert len(set(titles)) == len(titles) == 22
    assert not [title for title in titles if re.search(r"[()]|\d", title)]


def test_train_is_balanced(train: list[dict[str, str]], schema: dict[str, Any]) -> None:
    counts = Counter(map(chapter, train))
    assert 1000 <= len(train) <= 1500
    assert set(counts) == set(schema["properties"]["chapter"]["enum"])
    assert counts.pop(SPECIAL) == 3
    assert set(counts.values()) == {68}


def test_test_has_five_rows_of_each_chapter(held_out: list[dict[str, str]], schema: dict[str, Any]) -> None:
    assert Counter(map(chapter, held_out)) == dict.fromkeys(schema["properties"]["chapter"]["enum"], 5)


def test_validation_has_five_rows_of_each_chapter_but_the_smallest(
    validation: list[dict[str, str]], schema: dict[str, Any]
) -> None:
    expected = dict.fromkeys(schema["properties"]["chapter"]["enum"], 5)
    del expected[SPECIAL]
    assert Counter(map(chapter, validation)) == expected


def test_any_first_rows_are_balanced(train: list[dict[str, str]], held_out: list[dict[str, str]]) -> None:
    assert len(set(map(chapter, train[:22]))) == len(set(map(chapter, held_out[:22]))) == 22


def test_no_row_comes_twice(
    train: list[dict[str, str]], validation: list[dict[str, str]], held_out: list[dict[str, str]], build: ModuleType
) -> None:
    everything = train + validation + held_out
    assert len({build.words(row["input"]) for row in everything}) == len(everything)


@pytest.mark.parametrize(
    ("known_rows", "new_rows"), [("train", "test"), ("train", "validation"), ("validation", "test")]
)
def test_no_row_is_like_one_of_another_part(known_rows: str, new_rows: str, build: ModuleType) -> None:
    known = [(row["input"], build.trigrams(row["input"])) for row in read_rows(f"{known_rows}.jsonl")]
    for row in read_rows(f"{new_rows}.jsonl"):
        own = build.trigrams(row["input"])
        for text, pieces in known:
            # Written out here rather than called, so that a fault in the script cannot hide itself.
            assert len(own & pieces) / len(own | pieces) < 0.6, (row["input"], text)


def test_test_rows_are_unlike_each_other(held_out: list[dict[str, str]], build: ModuleType) -> None:
    own = [row["input"] for row in held_out if chapter(row) != SPECIAL]
    alike = [
        (one, other)
        for one, other in combinations(own, 2)
        if build.similarity(build.trigrams(one), build.trigrams(other)) >= build.NEAR_DUPLICATE
    ]
    assert len(own) == 105
    assert alike == []


def test_no_train_row_has_the_words_of_a_test_row(train: list[dict[str, str]], held_out: list[dict[str, str]]) -> None:
    def plain(row: dict[str, str]) -> frozenset[str]:
        return frozenset(re.findall(r"\w+", row["input"].casefold()))

    known = {plain(row): row["input"] for row in train}
    for row in held_out:
        for other, text in known.items():
            assert len(plain(row) & other) / len(plain(row) | other) < 0.75, (row["input"], text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Fanconi's anemia", "Fanconi anemia"),
        ("Megaloblastic anemia NOS", "Other megaloblastic anemias, not elsewhere classified"),
        ("Ménière's disease", "MENIERE DISEASE, unspecified"),
        ("Cleft hard and soft palate", "Cleft hard palate with cleft soft palate"),
        ("Neoplasm of tonsil, pharyngeal", "Pharyngeal tonsil neoplasm"),
    ],
)
def test_other_spellings_are_near_duplicates(build: ModuleType, one: str, other: str) -> None:
    assert build.similarity(build.trigrams(one), build.trigrams(other)) >= build.NEAR_DUPLICATE


def test_other_diagnoses_are_not_near_duplicates(build: ModuleType) -> None:
    for one, other in [("Boil of external ear", "Abscess of external ear"), ("Hay fever", "Yellow fever")]:
        assert build.similarity(build.trigrams(one), build.trigrams(other)) < build.NEAR_DUPLICATE


def test_files_are_utf_8_with_plain_line_ends() -> None:
    for name in FILES:
        content = (FOLDER / name).read_bytes()
        assert b"\r" not in content
        assert content.decode("utf-8").endswith("}\n")


def test_building_again_gives_the_same_bytes_and_the_counts_of_the_readme(build: ModuleType, tmp_path: Path) -> None:
    try:
        version = importlib.metadata.version(build.PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{build.PACKAGE} is not installed")
    if version != build.VERSION:
        pytest.skip(f"{build.PACKAGE} is {version}, the files are built from {build.VERSION}")
    command = [sys.executable, str(FOLDER / "build.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name
    readme = (FOLDER / "README.md").read_text("utf-8")
    printed = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(printed) > 30
    for line in printed:
        assert line in readme


def test_another_version_of_the_package_is_refused(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.4.0")
    with pytest.raises(SystemExit) as stopped:
        build.load_package()
    assert stopped.value.code == 2
    assert f"pip install {build.PACKAGE}=={build.VERSION}" in capsys.readouterr().err
