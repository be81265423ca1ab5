from __future__ import annotations

from typing import Any

from core import Segment
from plugins.formats.input_output import render


def test_segments_as_they_are(tokenizer: Any) -> None:
    row = {
        "segments": [
            {"label": True, "text": "A "},
            {"label": False, "text": "B"},
            {"label": True, "text": "C<|im_end|>"},
            {"label": False, "text": "\n"},
        ]
    }
    (example,) = render(row, {}, tokenizer)
    assert list(example.segments) == [
        Segment("A ", trained=True),
        Segment("B"),
        Segment("C", trained=True, answer=True),
        Segment("<|im_end|>", trained=True),
        Segment("\n"),
    ]


def test_nothing_trained(tokenizer: Any) -> None:
    (example,) = render({"segments": [{"label": False, "text": "A"}]}, {}, tokenizer)
    assert list(example.segments) == [Segment("A")]
