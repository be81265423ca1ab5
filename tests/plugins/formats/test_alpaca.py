from __future__ import annotations

from typing import Any

import pytest

from core import RowError, Segment
from plugins.formats.alpaca import dataset_formats, render

WITH_INPUT = """Below is an instruction that describes a task, paired with an input that provides further context. \
Write a response that appropriately completes the request.

### Instruction:
Add {{}}.

### Input:
1 and {instruction}

### Response:
"""
WITHOUT_INPUT = """Below is an instruction that describes a task. Write a response that appropriately completes the \
request.

### Instruction:
Add {{}}.

### Response:
"""


def test_with_input(tokenizer: Any) -> None:
    row = {"instruction": "Add {{}}.", "input": "1 and {instruction}", "output": "two\n"}
    (example,) = render(row, {}, tokenizer)
    assert list(example.segments) == [
        Segment(WITH_INPUT),
        Segment("two\n", trained=True, answer=True),
        Segment("<|im_end|>", trained=True),
    ]


@pytest.mark.parametrize("extra", [{}, {"input": ""}, {"input": None}])
def test_without_input(tokenizer: Any, extra: dict[str, Any]) -> None:
    (example,) = render({"instruction": "Add {{}}.", "output": "two", **extra}, {}, tokenizer)
    assert example.segments[0] == Segment(WITHOUT_INPUT)


def test_train_on_inputs(tokenizer: Any) -> None:
    (example,) = render({"instruction": "a", "output": "b"}, {"train_on_inputs": True}, tokenizer)
    assert [(segment.trained, segment.answer) for segment in example.segments] == [
        (True, False),
        (True, True),
        (True, False),
    ]


def test_other_columns(tokenizer: Any) -> None:
    options = {"field_instruction": "question", "field_input": "context", "field_output": "answer"}
    plain = {"instruction": "a", "input": "c", "output": "b"}
    renamed = {"question": "a", "context": "c", "answer": "b"}
    assert render(renamed, options, tokenizer) == render(plain, {}, tokenizer)
    with pytest.raises(RowError, match="row has no field 'context'; it has: question, answer"):
        render({"question": "a", "answer": "b"}, options, tokenizer)


def test_options_have_descriptions() -> None:
    (made,) = dataset_formats()
    assert made.options_schema
    assert all(schema["description"] for schema in made.options_schema.values())
