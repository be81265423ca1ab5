from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.recipe import Recipe
from plugins.evaluators.json_field import check_recipe, score
from tests.core.evaluation.making import make_item


@pytest.mark.parametrize(
    ("prediction", "options", "right", "present"),
    [
        ('{"chapter": "Neoplasms", "why": "it grows"}', {}, 1.0, 1.0),
        ('{"chapter": " Neoplasms "}', {}, 1.0, 1.0),
        ('{"chapter": "neoplasms"}', {}, 0.0, 1.0),
        ('{"chapter": "neoplasms"}', {"casefold": True}, 1.0, 1.0),
        ('{"title": "Neoplasms"}', {}, 0.0, 0.0),
        ('"Neoplasms"', {}, 0.0, 0.0),
        ("Neoplasms", {}, 0.0, 0.0),
        ("", {}, 0.0, 0.0),
    ],
)
def test_the_field_alone_counts(prediction: str, options: dict[str, Any], right: float, present: float) -> None:
    item = make_item('{"chapter": "Neoplasms"}')
    assert score(prediction, item, {"field": "chapter", **options}) == {"json_field": right, "present": present}


def test_nested_fields_numbers_and_booleans() -> None:
    item = make_item('{"patient": {"age": 40, "ill": true}}')
    assert score('{"patient": {"age": 40.0}}', item, {"field": "patient.age"})["json_field"] == 1.0
    assert score('{"patient": {"ill": 1}}', item, {"field": "patient.ill"})["json_field"] == 0.0
    assert score('{"patient": 3}', item, {"field": "patient.age"})["present"] == 0.0


def test_any_reference_will_do() -> None:
    item = replace(make_item(), references=('{"a": 1}', '{"a": 2}'))
    assert score('{"a": 2}', item, {"field": "a"})["json_field"] == 1.0


def test_a_reference_without_the_field_is_the_users_error() -> None:
    with pytest.raises(ValueError, match="has no field 'chapter'"):
        score("{}", make_item('{"title": 1}'), {"field": "chapter"})


def test_a_recipe_without_the_field_is_a_problem(tmp_path: Path) -> None:
    metrics = [{"type": "json_field", "field": "a"}, {"type": "json_field"}]
    (problem,) = check_recipe(recipe=Recipe(tmp_path / "r.yml", "", {"evaluation": {"metrics": metrics}}))
    assert problem.key == ("evaluation", "metrics", 1, "type")
