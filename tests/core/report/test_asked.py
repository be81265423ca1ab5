from __future__ import annotations

from typing import Any

from core.report.asked import asked, scored_by
from core.report.page import report_page


def test_the_page_says_what_each_column_was_asked_and_how_it_was_scored(
    values: dict[str, Any], predictions: list[dict[str, Any]]
) -> None:
    values["recipe"]["values"]["evaluation"] = {
        "metrics": [{"type": "accuracy", "json": True}, {"type": "format_compliance", "enum": ["a label"] * 50}]
    }
    values["columns"]["base"] |= {
        "prompt_form": "chat turns: instruction, 2 worked examples, question",
        "prompt_sample": "<b>Is 2 even?",
        "shots": ["train.jsonl:3", "train.jsonl:9"],
        "decoding": "greedy",
        "max_new_tokens": 48,
    }
    (found,) = asked(values)
    assert found == {
        "label": "base",
        "words": "As chat turns: instruction, 2 worked examples, question. Examples: train.jsonl:3, train.jsonl:9. "
        "Decoded greedily, up to 48 tokens.",
        "sample": "<b>Is 2 even?",
    }
    said = scored_by(values)
    assert said.startswith('All columns are scored alike: accuracy (json: true); format compliance (enum: ["a label", ')
    assert said.endswith("…).")
    page = report_page(values, predictions)
    assert '<pre class="prompt">&lt;b&gt;Is 2 even?</pre>' in page
    assert said.split(";")[0] in page


def test_runs_that_do_not_tell_show_nothing_of_it(values: dict[str, Any], predictions: list[dict[str, Any]]) -> None:
    assert asked(values) == []
    assert "What each column was asked" not in report_page(values, predictions)
