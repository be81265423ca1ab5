from __future__ import annotations

from typing import Any

import pytest

from core.report.figures import (
    comparison_header,
    comparison_rows,
    demands,
    duration,
    notes,
    percent,
    run_rows,
    size,
    with_interval,
)
from core.report.page import report_page


def test_the_comparison_has_a_row_per_metric_and_a_cell_per_column(values: dict[str, Any]) -> None:
    assert comparison_header(values) == ["", "base", "fine-tuned"]
    assert comparison_rows(values) == [
        ["accuracy", "33.3 % (6–79)", "66.7 % (21–94)"],
        ["latency per answer (median)", "1.23 s", "0.50 s"],
        ["tokens per answer", "12.0", "4.5"],
    ]


def test_a_metric_without_a_value_is_shown_as_missing(values: dict[str, Any]) -> None:
    values["evaluation"]["base"]["accuracy"]["value"] = None
    del values["evaluation"]["tuned"]["accuracy"]
    assert comparison_rows(values)[0] == ["accuracy", "–", "–"]


def test_the_run_rows_name_what_it_took(values: dict[str, Any]) -> None:
    rows = dict(run_rows(values))
    assert rows["parameters trained"] == "460,800 of 134,975,808 (0.34 %)"
    assert rows["time"] == "6 min 26 s training, 12 min 25 s in all"
    assert rows["accuracy without a model"] == "chance 50 %, always the most frequent answer 66.7 %"
    assert rows["peak memory"] == "3.00 GiB"


def test_a_scoring_says_how_long_it_took_itself_and_nothing_of_a_training_it_knows_not(values: dict[str, Any]) -> None:
    values["scored"] = {"target": "/somewhere", "kind": "run", "trained_here": True}
    assert dict(run_rows(values))["time"] == "6 min 26 s training, 12 min 25 s for this scoring"
    values["scored"]["trained_here"] = False
    assert [label for label, _ in run_rows(values)] == ["held-out items", "accuracy without a model", "time"]
    assert dict(run_rows(values))["time"] == "12 min 25 s scoring"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (3600, "1 h 00 min"), (11_100, "3 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_notes_say_what_was_timed_and_which_weights_answered(values: dict[str, Any]) -> None:
    values["columns"]["tuned"].update(model="as trained, adapter not merged", dtype="float32", quantisation=None)
    values["verdict"]["caveats"] = ["one seed only"]
    assert notes(values)[1:] == [
        "Latency: 3 items, one at a time, after warming up.",
        "fine-tuned: as trained, adapter not merged (float32).",
        "One seed only.",
    ]
    values["evaluation"] = {}
    assert notes(values) == []


def test_examples_that_there_are_not_are_told(values: dict[str, Any]) -> None:
    values["columns"]["base"] = {"label": "base, prompted (12 examples)", "shown": 12, "wanted": 50}
    said = "base, prompted (12 examples): 50 examples were asked for, and there are only 12 rows to show."
    assert said in notes(values)
    values["columns"]["base"]["wanted"] = 12
    assert not any("asked for" in note for note in notes(values))


def test_the_step_of_the_model_that_was_kept_is_named(values: dict[str, Any]) -> None:
    assert "model kept" not in dict(run_rows(values))
    values["train"]["best"] = {"metric": "token_f1", "value": 0.5, "step": 1200}
    assert dict(run_rows(values))["model kept"] == "of step 1,200, the best by token f1"


def test_forgetting_with_a_bound_is_a_demand_like_a_gate(values: dict[str, Any]) -> None:
    values["gates"] = [{"passed": True, "words": "accuracy: passed"}]
    values["forgetting"] = {"passed": False, "max_drop": 0.02, "words": "forgetting shown: text 4 → 5"}
    assert [(one["passed"], one["words"]) for one in demands(values)] == [
        (True, "accuracy: passed"),
        (False, "forgetting: failed, forgetting shown: text 4 → 5"),
    ]
    values["forgetting"]["max_drop"] = None
    assert len(demands(values)) == 1


def test_the_tuned_column_stands_out_wherever_it_stands(
    values: dict[str, Any], predictions: list[dict[str, Any]]
) -> None:
    values["evaluation"]["merged"] = values["evaluation"]["base"]
    values["columns"]["merged"] = {"label": "fine-tuned, merged"}
    rows = report_page(values, predictions).split("<tbody>")[1].split("</tr>")
    assert 'class="strong"><span class="whole">66.7 %</span>' in " ".join(rows[0].split())
    assert rows[0].count('class="strong"') == 1


def test_per_cent_and_sizes() -> None:
    assert [percent(0), percent(1), percent(0.125), percent(0.1)] == ["0 %", "100 %", "12.5 %", "10 %"]
    assert size(5 * 2**20) == "5 MiB"


@pytest.mark.parametrize(
    ("value", "interval", "unit", "text"),
    [
        (0.25, [0.1, 0.9], "share", "25 % (10–90)"),
        (-0.25, [-0.4, -0.1], "share", "-25 % (-40 to -10)"),
        (1.5, (1.0, 2.0), "seconds", "1.50 s (1.00–2.00)"),
        (0.25, [0.1, None], "share", "25 %"),
        (None, [0.1, 0.9], "share", "–"),
    ],
)
def test_a_figure_with_its_interval(value: float | None, interval: Any, unit: str, text: str) -> None:
    assert with_interval(value, interval, unit) == text
