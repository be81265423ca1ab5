from __future__ import annotations

import copy
from typing import Any

from core.report.sections import forgetting_table, slice_tables
from tests.core.report.conftest import VALUES


def test_what_was_lost_is_a_row_per_part() -> None:
    parts = [
        {
            "name": "text",
            "label": "perplexity on general text",
            "n": 24,
            "unit": "perplexity",
            "base": 12.34,
            "tuned": 15.0,
            "drop": 0.18,
            "interval": [0.1, 0.25],
            "outcome": "shown",
        },
        {
            "name": "instructions",
            "label": "instructions followed",
            "n": 43,
            "unit": "share",
            "base": 0.5,
            "tuned": 0.5,
            "drop": 0.0,
            "interval": None,
            "outcome": "not_shown",
        },
    ]
    header, text, instructions = forgetting_table({"forgetting": {"parts": parts}})
    assert header[1:4] == ["base", "fine-tuned", "drop"]
    assert text[0] == "perplexity on general text (24)"
    assert text[1].startswith("12.3")
    assert "10" in text[3]
    assert "25" in text[3]
    assert text[4] == "loss shown"
    assert instructions[1] == instructions[2] == "50 %"
    assert instructions[4] == "no loss shown"
    assert forgetting_table({}) == []


def test_slices_are_a_table_per_field() -> None:
    values: dict[str, Any] = copy.deepcopy(VALUES)
    metric = values["verdict"].get("metric") or next(iter(values["metrics"]))
    names = list(values["evaluation"])
    figure = {"value": 0.5, "interval": [0.2, 0.8], "n": 6}
    values["slices"] = {
        "chapter": [
            {
                "value": "Eye",
                "items": 6,
                "columns": {names[-1]: {metric: figure}},
                "comparisons": [{"outcome": "better"}],
            },
            {"value": "Ear", "items": 2, "columns": {}, "comparisons": []},
        ]
    }
    ((title, (header, eye, ear)),) = slice_tables(values)
    assert title == f"{metric.replace('_', ' ')} by chapter"
    assert header[:2] == ["chapter", "items"]
    assert len(header) == len(eye) == len(ear) == len(names) + 3
    assert eye[:2] == ["Eye", "6"]
    assert "50" in eye[-2]
    assert eye[-1] == "better"
    assert ear[-1] != "better"
    assert slice_tables({**values, "slices": {}}) == []
