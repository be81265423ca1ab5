"""Every instruction format in every style, letter for letter.

instruction_texts.txt was compared with the sources that NOTICE names. To write it anew, for a new format: run this file
with TUNESMITH_REWRITE=1; what stood in it before may not change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core import DatasetFormat
from plugins.formats import alpaca, instruction, user_defined

GOLDEN = Path(__file__).with_name("instruction_texts.txt")
# a row that has the columns of every format
ROW = {
    "instruction": "Add.",
    "output": "two",
    "system": "Be brief.",
    "system_prompt": "Be brief.",
    "question": "1 + 1?",
    "answer": "two",
    "response": "two",
    "message_1": "Add.",
    "message_2": "two",
    "context": "Sums.",
    "article": "Sums.",
    "unanswerable_question": "Why?",
    "summary": "two",
    "category": "sums",
    "choices": ["two", "three"],
    "solution": "two",
    "reflection": "Right.",
    "corrected": "two",
    "prompt": "Add.\n",
    "generation": "two",
    "INSTRUCTION": "Add.",
    "RESPONSE": "two",
    "revision": "two",
    "scores": {"refusal": 10, "creativity": 2},
    "critiques": {"refusal": {"explanation": "It answers.", "improvements": "None"}},
}


def texts(tokenizer: Any) -> Iterator[tuple[str, str]]:
    """(format, style and whether there is an input; the text, with ⟦ ⟧ around what is trained)."""
    made: list[DatasetFormat] = [
        *alpaca.dataset_formats(),
        *instruction.dataset_formats(),
        *user_defined.dataset_formats(),
    ]
    for format in made:
        defaults = {name: one["default"] for name, one in format.options_schema.items() if "default" in one}
        for style in format.options_schema.get("prompt_style", {}).get("enum", [None]):
            seen = []
            for given in ("", "1 and 1"):
                options = {**defaults, "prompt_style": style} if style else defaults
                (example,) = format.render({**ROW, "input": given}, options, tokenizer)
                text = "".join(f"⟦{part.text}⟧" if part.trained else part.text for part in example.segments)
                if text not in seen:
                    seen.append(text)
                    name = f"{format.name}{':' + style if style else ''}{' with an input' if given else ''}"
                    yield name, text.replace("⟧⟦", "")


def test_texts_are_those_of_the_formats(tokenizer: Any) -> None:
    found = "".join(f"== {name}\n{text}\n\n" for name, text in texts(tokenizer))
    if os.environ.get("TUNESMITH_REWRITE"):
        GOLDEN.write_text(found, encoding="utf-8")
    assert found.count("== ") >= 60
    assert found == GOLDEN.read_text(encoding="utf-8")
