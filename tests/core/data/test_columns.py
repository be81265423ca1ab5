from __future__ import annotations

from typing import Any

import pytest

from core.data.columns import propose

HEAD = "for these fields, write in the recipe:"
MESSAGE = {"role": "user", "content": "a"}


@pytest.mark.parametrize(
    ("row", "lines"),
    [
        ({"instruction": "a", "input": "", "output": "b"}, ["type: alpaca"]),
        ({"Question": "a", "Answer": "b"}, ["type: alpaca", "field_instruction: Question", "field_output: Answer"]),
        (
            {"question": "a", "context": "c", "answer": "b"},
            ["type: alpaca", "field_instruction: question", "field_input: context", "field_output: answer"],
        ),
        ({"input": "a", "label": "b"}, ["type: alpaca", "field_instruction: input", "field_output: label"]),
        ({"text": "a"}, ["type: completion"]),
        ({"content": "a"}, ["type: completion", "field: content"]),
        ({"messages": [MESSAGE]}, ["type: chat_template"]),
        ({"dialog": [MESSAGE]}, ["type: chat_template", "field_messages: dialog"]),
        ({"segments": [{"label": True, "text": "a"}]}, ["type: input_output"]),
    ],
)
def test_proposals(row: dict[str, Any], lines: list[str]) -> None:
    assert propose(row) == "\n    ".join([HEAD, *lines])


def test_nothing_fits() -> None:
    assert propose({"a": 1, "b": 2}) == "choose the type that fits these fields, or rename them in the file"
