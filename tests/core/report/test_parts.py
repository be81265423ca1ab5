from __future__ import annotations

from typing import Any

from core.report import parts
from core.report.chart import histograms
from core.report.matrix import confusions, matrix, worst
from core.report.page import report_page


def test_slices_have_a_bar_per_column_and_the_outcome(values: dict[str, Any]) -> None:
    figures = {
        name: {"accuracy": {"value": share, "interval": [0.1, 0.9], "n": 2}}
        for name, share in (("base", 0.25), ("tuned", 1.0))
    }
    entry = {"value": "<b>x</b>", "items": 2, "columns": figures, "comparisons": [{"outcome": "better"}]}
    values["slices"] = {"kind": [entry]}
    (part,) = parts.slices(values, "accuracy")
    assert [cell["share"] for cell in part["rows"][0]["cells"]] == [0.25, 1.0]
    assert part["rows"][0]["cells"][0]["text"] == "25 % (10–90)"
    page = report_page(values, [])
    assert "width:25.0%" in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page


def test_forgetting_is_told_with_a_row_per_part(values: dict[str, Any]) -> None:
    part = {
        "name": "text",
        "label": "general text",
        "unit": "perplexity",
        "n": 9,
        "base": 20.0,
        "tuned": 21.0,
        "drop": 0.05,
        "interval": [-0.01, 0.1],
        "outcome": "not_shown",
    }
    values["forgetting"] = {
        "probe": "default",
        "max_drop": 0.02,
        "outcome": "not_shown",
        "passed": True,
        "words": "No loss shown.",
        "parts": [part],
    }
    found = parts.forgetting(values)
    assert found["rows"] == [["general text", "9", "20", "21", "5 % (-1 to 10)", "not shown"]]
    assert "No loss shown." in report_page(values, [])


def test_a_plan_is_set_beside_what_was_measured(values: dict[str, Any]) -> None:
    assert parts.memory(values) == []
    values["plan"] = {"predicted_bytes": 2 * 2**30, "measured_bytes": 4 * 2**30}
    assert parts.memory(values) == [["peak memory", "2.00 GiB (-50 %)", "4.00 GiB"]]


def test_the_data_section_counts_and_remarks(values: dict[str, Any]) -> None:
    finding = {
        "check": "near_duplicates",
        "level": "warn",
        "message": "two alike",
        "count": 7,
        "places": [f"a.jsonl:{line}" for line in range(7)],
        "help": None,
    }
    values["data"] = {
        "datasets": [
            {"path": "a.jsonl", "rows": 1200, "examples": 1200, "tokens": 3000, "trained_share": 0.25, "bad_rows": 1}
        ],
        "evaluation": [{"path": "t.jsonl", "rows": 3, "items": 3}],
        "audit": {"examples": 1203, "checks": {"near_duplicates": "warn"}, "findings": [finding]},
    }
    found = parts.audit(values)
    assert found["rows"][0] == ["train: a.jsonl", "1,200", "1,200", "3,000", "25 %", "1"]
    assert found["rows"][1] == ["held out: t.jsonl", "3", "3", "–", "–", "0"]
    assert "a.jsonl:4, …" in report_page(values, [])


def test_metrics_scored_during_training_are_drawn(values: dict[str, Any]) -> None:
    assert parts.metric_chart(values) == ""
    values["train"]["generation"] = {"items": 8, "source": "the validation data", "metrics": ["accuracy", "latency"]}
    values["train"]["history"] += [{"step": 2, "eval_accuracy": 0.25}, {"step": 4, "eval_accuracy": 0.5}]
    assert "accuracy: from 0.25 at 2 to 0.5 at 4" in parts.metric_chart(values)
    assert parts.generated_during_training(values).endswith("on 8 items of the validation data")


def test_the_worst_confusions_and_the_matrix() -> None:
    labels, counts = ["a", "b"], [[3, 2, 1], [0, 4, 5]]
    assert worst(labels, counts) == [("b", "no label", 5), ("a", "b", 2), ("a", "no label", 1)]
    picture = matrix(labels, counts)
    assert picture.count('class="hit"') == 2
    assert picture.count('class="miss"') == 3
    assert "expected b, answered no label: 5" in picture
    assert "7 of 15 answers right" in picture


def test_a_matrix_of_many_labels_leaves_their_names_to_the_titles() -> None:
    labels = [f"label {number}" for number in range(77)]
    counts = [[int(row == column) for column in range(78)] for row in range(77)]
    picture = matrix(labels, counts)
    assert picture.count('<rect class="hit"') == 77
    assert "label 3</text>" not in picture


def test_confusions_open_at_the_fine_tuned_column(values: dict[str, Any]) -> None:
    assert confusions(values) == []
    for column in values["evaluation"].values():
        column["accuracy"]["details"] = {"labels": ["yes", "no"], "confusion": [[1, 0, 0], [1, 1, 0]]}
    assert [(one["column"], one["open"]) for one in confusions(values)] == [("base", False), ("fine-tuned", True)]
    assert report_page(values, []).count("<details open>") == 1


def test_histograms_count_every_value_once() -> None:
    drawn = histograms({"a": [1, 2, 2, 40], "none": []}, x_label="tokens")
    assert "2 to 4: 2" in drawn
    assert drawn.count("<rect") == 3
    assert "a: median 2, largest 40, 4 values" in drawn
    assert "none" not in drawn
    assert histograms({"a": []}, x_label="tokens") == ""
    assert histograms({"a": [0]}, x_label="tokens").count("<rect") == 1


def test_latencies_come_out_of_the_details(values: dict[str, Any]) -> None:
    assert parts.latency_chart(values) == ""
    values["evaluation"]["tuned"]["latency"]["details"] = {"seconds": [0.5, 0.25]}
    assert "fine-tuned: median 0.38 s, largest 0.5 s" in parts.latency_chart(values)
