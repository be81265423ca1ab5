"""What stands beside the comparison: scores by slice, and general abilities before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.report.figures import MISSING, cell, column_label, figure, with_interval

OUTCOMES = {"better": "better", "worse": "worse", "not_shown": "not shown"}
LOST = {"not_shown": "no loss shown", "within": "loss shown, within max_drop", "shown": "loss shown"}


def slice_tables(values: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """Per field of `slice_by` its name and a table: a header, then a row per value with the deciding metric of every
    column, and whether tuning is better or worse there."""
    metric = values["verdict"].get("metric") or next(iter(values["metrics"]), None)
    if metric is None:
        return []
    unit, names = values["metrics"][metric]["unit"], list(values["evaluation"])
    tables = []
    for field, rows in values.get("slices", {}).items():
        header = [field, "items", *(column_label(values, name) for name in names), "tuned is"]
        body = [
            [
                row["value"],
                str(row["items"]),
                *(cell(row["columns"].get(name, {}).get(metric), unit) for name in names),
                ", ".join(OUTCOMES[one["outcome"]] for one in row["comparisons"]) or MISSING,
            ]
            for row in rows
        ]
        tables.append((f"{metric.replace('_', ' ')} by {field}", [header, *body]))
    return tables


def forgetting_table(values: Mapping[str, Any]) -> list[list[str]]:
    """A header, then a row per part of the probe: base, tuned, the drop with its interval, what it shows."""
    forgetting = values.get("forgetting")
    if not forgetting:
        return []
    rows = [["general abilities", "base", "fine-tuned", "drop", ""]]
    for part in forgetting["parts"]:
        unit = "share" if part["unit"] == "share" else ""
        drop = with_interval(part["drop"], part["interval"], "share")
        label = f"{part['label']} ({part['n']})"
        rows.append([label, figure(part["base"], unit), figure(part["tuned"], unit), drop, LOST[part["outcome"]]])
    return rows
