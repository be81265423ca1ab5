from __future__ import annotations

from typing import Any

from core.report.further import further_figures


def test_percentiles_averages_and_reasons_stand_beside_what_is_compared(values: dict[str, Any]) -> None:
    values["metrics"]["format_compliance"] = {"unit": "share", "higher_is_better": True}
    for name, failed in (("base", 12), ("tuned", 0)):
        metrics = values["evaluation"][name]
        metrics["latency"]["summary"] = {
            "latency": metrics["latency"]["value"],
            "p95": 2.345,
            "tokens_per_second": 40.25,
        }
        metrics["accuracy"]["summary"] = {"accuracy": metrics["accuracy"]["value"], "picked": 0.125}
        reasons = {"not_json": failed, "schema": 1}
        metrics["format_compliance"] = {
            "value": 0.5,
            "interval": None,
            "n": 24,
            "summary": {"format_compliance": 0.5, "not_json": failed / 24, "schema": 1 / 24},
            "details": {"reasons": reasons},
        }
    assert further_figures(values) == [
        ["", "base", "fine-tuned"],
        ["accuracy: picked", "12.5 %", "12.5 %"],
        ["latency: 95th percentile", "2.35 s", "2.35 s"],
        ["latency: tokens per second", "40.25", "40.25"],
        ["format compliance: failed by not json", "12", "0"],
        ["format compliance: failed by schema", "1", "1"],
    ]


def test_a_column_without_a_metric_has_a_dash_and_no_metric_no_table(values: dict[str, Any]) -> None:
    assert further_figures(values) == []
    values["evaluation"]["tuned"]["latency"]["summary"] = {"p95": 3.0}
    del values["evaluation"]["base"]["latency"]
    assert further_figures(values)[1:] == [["latency: 95th percentile", "–", "3.00 s"]]
