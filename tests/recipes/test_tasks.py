"""The data of the tasks beside the quickstart's: no leakage, answers in the form that the recipe asks for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import pytest

from core.host import load_host
from core.recipe import load_recipe
from recipes.drawing import NEAR_DUPLICATE, draw, similarity, trigrams
from recipes.snips.build import read

FOLDER = Path(__file__).parents[2] / "recipes"
TASKS = {"banking77": (1386, 154, 308), "snips": (1120, 105, 210)}
PARTS = ("train", "validation", "test")


def rows(task: str, part: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / task / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("task", TASKS)
def test_no_held_out_row_has_a_near_duplicate_among_the_rows_drawn_after_it(task: str) -> None:
    pieces = {part: [trigrams(row["input"]) for row in rows(task, part)] for part in PARTS}
    assert tuple(map(len, pieces.values())) == TASKS[task]
    for later, held_out in (("train", "validation"), ("train", "test"), ("validation", "test")):
        closest = max(similarity(own, other) for own in pieces[later] for other in pieces[held_out])
        assert closest < NEAR_DUPLICATE


def test_banking77_is_balanced_and_its_recipe_lists_every_label() -> None:
    counts = {part: Counter(row["output"] for row in rows("banking77", part)) for part in PARTS}
    assert [set(found.values()) for found in counts.values()] == [{18}, {2}, {4}]
    evaluation = load_recipe(FOLDER / "banking77.yml")["evaluation"]
    listed = next(metric["enum"] for metric in evaluation["metrics"] if metric["type"] == "format_compliance")
    assert sorted(listed) == sorted(counts["test"]) == sorted(counts["train"])
    prompted = next(column["prompted"] for column in evaluation["compare"] if isinstance(column, Mapping))
    words = prompted["instruction"].replace(".\n", ",\n").replace(",", " ").split()
    assert set(listed) <= set(words)


def test_every_answer_of_snips_fits_the_schema_and_copies_from_its_command() -> None:
    schema = jsonschema.Draft202012Validator(json.loads((FOLDER / "snips" / "answer.schema.json").read_text()))
    for row in (row for part in PARTS for row in rows("snips", part)):
        answer = json.loads(row["output"])
        assert schema.is_valid(answer), row
        assert answer.pop("intent") == row["intent"]
        assert all(value in row["input"] for value in answer.values()), row
    assert not schema.is_valid({"intent": "PlayMusic", "city": "Oslo"})
    assert not schema.is_valid({"artist": "Oslo"})


def test_a_command_with_a_slot_twice_or_two_readings_is_left_out_and_a_split_character_put_together() -> None:
    pizza = "\U0001f355"
    halves = pizza.encode("utf-16-be")
    split = "".join(chr(int.from_bytes(halves[start : start + 2], "big")) for start in (0, 2))

    def row(*parts: tuple[str, str]) -> dict[str, object]:
        return {"data": [{"text": text, **({"entity": entity} if entity else {})} for text, entity in parts]}

    source = {
        "Play": [
            row(("play ", ""), (split, "album")),
            row(("play ", ""), ("a", "artist"), (" ", ""), ("b", "artist")),
            row(("play ", ""), ("c", "album")),
            row(("play ", ""), ("c", "track")),
        ]
    }
    data = json.dumps(source, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert read(data, "Play") == {f"play {pizza}": {"album": pizza}}


def test_drawing_passes_over_near_duplicates_and_is_the_same_again() -> None:
    texts = ["where is my card", "Where is my card?", "how do I change my PIN", "what does a transfer cost"]
    chosen, passed_over = draw(texts, 4, [trigrams("what does a transfer cost me")])
    assert passed_over == 1
    assert len(chosen) == 2
    assert draw(reversed(texts), 4, [trigrams("what does a transfer cost me")])[0] == chosen


@pytest.mark.parametrize("task", TASKS)
def test_the_recipe_is_without_fault(task: str) -> None:
    from core.check import check_recipe

    recipe = load_recipe(FOLDER / f"{task}.yml")
    problems = [problem for problem in check_recipe(recipe, load_host()) if not problem.blocks_run]
    assert problems == []
