from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core import RowError, Segment
from core.data import tokenize_examples
from plugins.formats.alpaca import dataset_formats, render

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
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


def test_real_rows_against_a_plain_implementation(tokenizer: Any) -> None:
    path = SHARED / "rasbt_instruct" / "instruction-data.json"
    if not path.is_file():
        pytest.skip("the real data sets are not beside this checkout")
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert len(rows) == 1100
    examples = [example for row in rows for example in render(row, {}, tokenizer)]
    for row, tokens in zip(rows, tokenize_examples(examples, tokenizer), strict=True):
        prompt = WITH_INPUT if row["input"] else WITHOUT_INPUT
        prompt = prompt.replace("1 and {instruction}", row["input"]).replace("Add {{}}.", row["instruction"])
        whole = f"{prompt}{row['output']}<|im_end|>"
        encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        starts = [start for start, _ in encoded["offset_mapping"]]
        labels = [
            token if start >= len(prompt) else -100 for token, start in zip(encoded["input_ids"], starts, strict=True)
        ]
        assert (tokens.input_ids, tokens.labels) == (encoded["input_ids"], labels)
