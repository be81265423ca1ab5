from __future__ import annotations

from typing import Any

from core import Segment
from plugins.formats.completion import render


def test_all_is_trained_and_nothing_is_an_answer(tokenizer: Any) -> None:
    (example,) = render({"text": "Once upon a time."}, {}, tokenizer)
    assert list(example.segments) == [Segment("Once upon a time.", trained=True), Segment("<|im_end|>", trained=True)]


def test_another_column(tokenizer: Any) -> None:
    (example,) = render({"chapter": "One", "text": "x"}, {"field": "chapter"}, tokenizer)
    assert example.segments[0].text == "One"
