from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.check import check_recipe
from core.errors import RowError
from core.host import Host, load_host
from core.plan import make_plan
from core.recipe import load_recipe
from plugins.formats.pretokenised import render as render_tokens

ROW = {"frage": "Was ist {x}?", "antwort": "eins", "kontext": "x ist 1"}
DATASET = """
datasets:
  - path: org/data
    type:
      field_instruction: frage
      field_input: kontext
      field_output: antwort
      field_system:
      system_prompt: Kurz.
      system_format: "[{system}]\\n"
      format: "F: {instruction}\\nK: {input}\\nA:\\n"
      no_input_format: "F: {instruction}\\nA:\\n"
"""


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


def recipe(folder: Path, datasets: str) -> Any:
    path = folder / "recipe.yml"
    path.write_text(f"base_model: org/model\n{datasets}", encoding="utf-8")
    return load_recipe(path)


def test_a_map_under_type_describes_the_format(tmp_path: Path, host: Host, tokenizer: Any) -> None:
    (dataset,) = make_plan(recipe(tmp_path, DATASET), host).datasets
    assert dataset.format.name == "user_defined"
    (example,) = dataset.format.render(ROW, dataset.options, tokenizer)
    assert "".join(segment.text for segment in example.segments) == (
        "[Kurz.]\nF: Was ist {x}?\nK: x ist 1\nA:\neins<|im_end|>"
    )
    (example,) = dataset.format.render({**ROW, "kontext": None}, dataset.options, tokenizer)
    assert example.segments[0].text == "[Kurz.]\nF: Was ist {x}?\nA:\n"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("field_output: antwort", "field_outptu: antwort", 8, "unknown key 'field_outptu' in 'datasets.0'"),
        ("K: {input}", "K: {inptu}", 12, "'format' has {inptu} in it, which stands for nothing"),
        ("[{system}]", "[]", 11, "'system_format' leaves out {system}, so rows could not be told apart"),
        ("antwort", "[antwort]", 8, "'datasets.0.field_output' is a list of 1, expected text"),
    ],
)
def test_mistakes_are_shown_where_they_stand(
    tmp_path: Path, host: Host, old: str, new: str, line: int, message: str
) -> None:
    (problem,) = check_recipe(recipe(tmp_path, DATASET.replace(old, new)), host)
    assert problem.message == message
    assert problem.position is not None
    assert problem.position.line == line


def test_a_style_after_the_name(tmp_path: Path, host: Host, tokenizer: Any) -> None:
    (dataset,) = make_plan(recipe(tmp_path, "datasets: [{path: org/data, type: 'alpaca:chat'}]"), host).datasets
    (example,) = dataset.format.render({"instruction": "i", "output": "o"}, dataset.options, tokenizer)
    assert example.segments[0].text.endswith("request.\nUSER: i\nASSISTANT:")
    (problem,) = check_recipe(recipe(tmp_path, "datasets: [{path: org/data, type: 'alpaca:chatt'}]"), host)
    assert problem.message == "unknown dataset format 'alpaca:chatt'"


def test_a_data_set_without_a_type_holds_tokens(tmp_path: Path, host: Host) -> None:
    given = recipe(tmp_path, "datasets: [{path: org/data}]")
    (problem,) = check_recipe(given, host)
    assert problem.severity == "warning"
    assert problem.message == "'datasets.0' has no type: its rows are taken to hold token ids"
    assert make_plan(given, host).datasets[0].format.name == "pretokenised"
    assert check_recipe(recipe(tmp_path, "datasets: [{path: org/data, type: }]"), host) == []


def test_token_ids_are_taken_as_they_are(tokenizer: Any) -> None:
    row = {"input_ids": [5, 6, 7, 0], "labels": [-100, 6, 7, -100], "attention_mask": [1, 1, 1, 0]}
    (example,) = render_tokens(row, {}, tokenizer)
    assert (example.input_ids, example.labels) == ([5, 6, 7], [-100, 6, 7])
    (example,) = render_tokens({"input_ids": [5, 6]}, {}, tokenizer)
    assert example.labels == [5, 6]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input_ids": [5, 6], "labels": [5]}, "input_ids has 2 entries, labels has 1"),
        ({"input_ids": [10**9]}, "token id 1000000000 is not in the vocabulary"),
        ({"input_ids": [5, 6], "labels": [5, 7]}, "label 7 is neither its own token 6 nor -100"),
        ({"input_ids": "5 6"}, "field 'input_ids' is the text '5 6', not a list of whole numbers"),
        ({"input_ids": []}, "field 'input_ids' is empty"),
    ],
)
def test_tokens_that_cannot_be_right(tokenizer: Any, row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        render_tokens(row, {}, tokenizer)
