from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.check import check_recipe as check_whole_recipe
from core.host import load_host
from core.recipe import Recipe, load_recipe
from plugins.evaluators.format_compliance import check_recipe, score
from tests.core.evaluation.making import make_item

METRICS = ("evaluation", "metrics")
SCHEMA = {"type": "object", "properties": {"chapter": {"type": "string"}}, "required": ["chapter"]}


def reasons(prediction: str, **options: Any) -> set[str]:
    scores = score(prediction, make_item(), options)
    failed = {name for name, value in scores.items() if value and name != "format_compliance"}
    assert scores["format_compliance"] == float(not failed)
    return failed


@pytest.mark.parametrize(
    ("prediction", "options", "expected"),
    [
        (' {"a": 1}\n', {"json": True}, set()),
        ("yes", {"json": True}, {"not_json"}),
        ('```json\n{"a": 1}\n```', {"json": True}, {"not_json"}),
        ('{"a": NaN}', {"json": True}, {"not_json"}),
        ('{"a": 1, "a": 2}', {"json": True}, {"not_json"}),
        ("[" * 100_000, {"json": True}, {"not_json"}),
        ("", {"json": True}, {"not_json"}),
        ('{"chapter": "x"}', {"json_schema": SCHEMA}, set()),
        ('{"chapter": 1}', {"json_schema": SCHEMA}, {"schema"}),
        ("chapter", {"json_schema": SCHEMA}, {"not_json"}),
        ("AB-12", {"regex": r"[A-Z]{2}-\d+"}, set()),
        ("AB-12 or so", {"regex": r"[A-Z]{2}-\d+"}, {"regex"}),
        ("yes ", {"enum": ["yes", "no"]}, set()),
        ("Yes", {"enum": ["yes", "no"]}, {"enum"}),
        ("Yes", {"enum": ["yes", "no"], "json": True}, {"enum", "not_json"}),
    ],
)
def test_the_form_and_the_reasons(prediction: str, options: dict[str, Any], expected: set[str]) -> None:
    assert reasons(prediction, **options) == expected


def test_a_schema_can_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "answer.schema.json"
    path.write_text(json.dumps(SCHEMA))
    assert reasons('{"chapter": "x"}', json_schema=str(path)) == set()
    assert reasons("{}", json_schema=str(path)) == {"schema"}


def problems(folder: Path, **metric: Any) -> list[Any]:
    values = {"evaluation": {"metrics": [{"type": "accuracy"}, {"type": "format_compliance", **metric}]}}
    return check_recipe(recipe=Recipe(folder / "recipe.yml", "", values))


def test_valid_options_are_no_problem(tmp_path: Path) -> None:
    (tmp_path / "answer.schema.json").write_text(json.dumps(SCHEMA))
    assert problems(tmp_path, json_schema="answer.schema.json") == []
    assert problems(tmp_path, json_schema=SCHEMA, regex="a+", enum=["a"], json=True) == []
    assert check_recipe(recipe=Recipe(tmp_path / "recipe.yml", "", {})) == []


@pytest.mark.parametrize(
    ("options", "key", "words"),
    [
        ({"regex": "(["}, "regex", "'([' is not a regular expression"),
        ({"json_schema": "missing.json"}, "json_schema", "no JSON Schema can be read at 'missing.json'"),
        ({"json_schema": "broken.json"}, "json_schema", "'broken.json': not valid JSON"),
        ({"json_schema": {"type": "strin"}}, "json_schema.type", "not a valid JSON Schema: 'strin'"),
        (
            {"json_schema": {"$ref": "https://example.org/a.json"}},
            "json_schema",
            "the $ref 'https://example.org/a.json' leads",
        ),
        ({"json_schema": {"properties": {"a": {"$ref": "#/$defs/no"}}}}, "json_schema", "the $ref '#/$defs/no' leads"),
        ({"json_schema": "lost.json"}, "json_schema", "'lost.json': the $ref 'other.json' leads nowhere"),
        ({}, "type", "not told which form"),
        ({"json": False}, "type", "not told which form"),
    ],
)
def test_what_is_wrong_is_found_at_check_time(tmp_path: Path, options: dict[str, Any], key: str, words: str) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "lost.json").write_text('{"anyOf": [{"items": {"$ref": "other.json"}}, {"$ref": "other.json"}]}')
    (problem,) = problems(tmp_path, **options)
    assert words in problem.message
    assert problem.key == ("evaluation", "metrics", 1, *key.split("."))


def test_a_mistake_is_told_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text(
        "base_model: org/model\nadapter: full\noutput_dir: out\ndatasets: [{path: org/data, type: alpaca}]\n"
        "evaluation:\n  datasets: [{path: org/test, type: alpaca}]\n  metrics:\n"
        "    - {type: format_compliance, regex: '(yes|no'}\n"
        "    - type: format_compliance\n      json_schema: {properties: {a: {type: strin}}}\n"
    )
    found = check_whole_recipe(load_recipe(path), load_host())
    places = [(str(one.position), one.message.partition(":")[0]) for one in found if one.key[:2] == METRICS]
    assert places == [
        (f"{path}:8:40", "'(yes|no' is not a regular expression"),
        (f"{path}:10:44", "not a valid JSON Schema"),
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "object"}}},
        {"properties": {"next": {"$ref": "#"}}},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "items": {"$ref": "#/definitions/a"},
            "definitions": {"a": {}},
        },
        {"$id": "https://example.org/", "$defs": {"a": {"$id": "a", "$anchor": "x"}}, "items": {"$ref": "a#x"}},
        {"enum": [{"$ref": "text, not a reference"}]},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
    ],
)
def test_a_reference_that_leads_somewhere_is_no_problem(schema: dict[str, Any], tmp_path: Path) -> None:
    assert problems(tmp_path, json_schema=schema) == []


def test_a_schema_elsewhere_is_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *given, **named: asked.append(given))
    with pytest.raises(Exception, match=r"Unresolvable: https://example\.org"):
        score('{"a": 1}', make_item(), {"json_schema": {"$ref": "https://example.org/answer.json"}})
    assert asked == []
    within = {"$ref": "#/$defs/answer", "$defs": {"answer": {"type": "integer"}}}
    assert score("1", make_item(), {"json_schema": within})["format_compliance"] == 1.0
