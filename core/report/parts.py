"""The parts of the page below the comparison: what each shows, ready for the template; nothing where nothing is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.report.chart import histograms, line_chart
from core.report.figures import MISSING, column_label, duration, figure, percent, size, with_interval
from core.rounding import percent_of

SHOWN_PLACES = 5


def loss_chart(values: Mapping[str, Any]) -> str:
    """The training loss of every step, and the validation loss where it was measured."""
    losses = values["train"]["losses"]
    series: dict[str, list[tuple[float, float]]] = {
        "training": [(step, loss) for step, loss in enumerate(losses, start=1) if loss is not None],
        "validation": _logged(values, "eval_loss"),
    }
    return line_chart(
        {name: points for name, points in series.items() if points}, x_label="step", y_label="loss per token"
    )


def metric_chart(values: Mapping[str, Any]) -> str:
    """The metrics that are shares, scored by generation during training."""
    asked = values["train"].get("generation", {}).get("metrics", ())
    series = {
        name.replace("_", " "): points
        for name in asked
        if values["metrics"].get(name, {}).get("unit", "share") == "share"
        and (points := _logged(values, f"eval_{name}"))
    }
    return line_chart(series, x_label="step", y_label="share")


def generated_during_training(values: Mapping[str, Any]) -> str:
    """What was scored during training, in words."""
    about = values["train"].get("generation")
    if not about:
        return ""
    best = values["train"].get("best")
    kept = f"; the model of step {best['step']} was kept, the best by {best['metric']}" if best else ""
    return f"Metrics during training, on {about['items']} items of {about['source']}{kept}"


def length_chart(values: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> str:
    """How many tokens the answers of each column have."""
    series = {
        column_label(values, name): [line["answers"][name]["tokens"] for line in predictions if name in line["answers"]]
        for name in values["evaluation"]
    }
    return histograms(series, x_label="tokens per answer")


def latency_chart(values: Mapping[str, Any]) -> str:
    """How long the timed answers of each column took."""
    series = {
        column_label(values, name): [
            value for result in metrics.values() for value in result.get("details", {}).get("seconds", ())
        ]
        for name, metrics in values["evaluation"].items()
    }
    return histograms(series, x_label="seconds per answer", form="{:.2g} s".format)


def slices(values: Mapping[str, Any], metric: str | None) -> list[dict[str, Any]]:
    """Per field, a row per value: its items, and per column the figure of `metric` with a bar."""
    if metric is None:
        return []
    unit = values["metrics"].get(metric, {}).get("unit", "share")
    found = []
    for field, entries in values.get("slices", {}).items():
        rows = []
        for entry in entries:
            cells = [_bar(entry["columns"].get(name, {}).get(metric), unit) for name in values["evaluation"]]
            outcome = next((one["outcome"] for one in entry["comparisons"] if one.get("outcome")), "")
            rows.append({"value": entry["value"], "items": entry["items"], "cells": cells, "outcome": _words(outcome)})
        found.append({"field": field, "metric": metric.replace("_", " "), "rows": rows})
    return found


def forgetting(values: Mapping[str, Any]) -> dict[str, Any]:
    """General abilities of base and tuned model: the words, and a row per part of the probe."""
    about = values.get("forgetting")
    if not about:
        return {}
    rows = []
    for part in about["parts"]:
        unit = "share" if part["unit"] == "share" else ""
        rows.append(
            [
                part["label"],
                f"{part['n']:,}",
                with_interval(part["base"], part.get("base_interval"), unit),
                with_interval(part["tuned"], part.get("tuned_interval"), unit),
                with_interval(part["drop"], part.get("interval"), "share"),
                {"not_shown": "not shown", "within": "within the limit", "shown": "shown"}[part["outcome"]],
            ]
        )
    return {"words": about["words"], "passed": about["passed"], "rows": rows}


def repeats(values: Mapping[str, Any]) -> list[list[str]]:
    """A row per metric: the fine-tuned model's figure for each seed, and their mean."""
    about = values.get("repeats")
    if not about:
        return []
    rows = [["", *(f"seed {seed}" for seed in about["seeds"]), "mean"]]
    for metric, found in about["metrics"].items():
        unit = values["metrics"].get(metric, {}).get("unit", "")
        each = [figure(value, unit) for value in found["values"]]
        rows.append([metric.replace("_", " "), *each, with_interval(found["mean"], found["interval"], unit)])
    return rows


def audit(values: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of each data set, and what the data checks found."""
    data = values["data"]
    rows = []
    for part, label in (("datasets", "train"), ("validation", "validation"), ("evaluation", "held out")):
        for one in data.get(part) or ():
            share = one.get("trained_share")
            dropped = sum(one.get(key) or 0 for key in ("dropped_too_long", "nothing_to_train", "bad_rows"))
            counts = [one.get("rows"), one.get("examples", one.get("items")), one.get("tokens")]
            rows.append(
                [
                    f"{label}: {one.get('path', '')}",
                    *(MISSING if count is None else f"{count:,}" for count in counts),
                    MISSING if share is None else percent(share),
                    f"{dropped:,}",
                ]
            )
    found = data.get("audit") or {}
    findings = [
        {**finding, "check": finding["check"].replace("_", " "), "places": finding["places"][:SHOWN_PLACES]}
        for finding in found.get("findings", ())
    ]
    return {"rows": rows, "findings": findings, "checks": len(found.get("checks", ())), "made": bool(found)}


def memory(values: Mapping[str, Any]) -> list[list[str]]:
    """What was planned beside what was measured: part, predicted, measured."""
    about = values.get("plan") or {}
    predicted, measured = about.get("predicted_bytes"), about.get("measured_bytes", values["memory"]["peak_bytes"])
    if predicted is None:
        return []
    off = f" ({percent_of((predicted - measured) / measured, signed=True)} %)" if measured else ""
    rows = [["peak memory", size(int(predicted)) + off, size(int(measured))]]
    rows += [
        [str(name).replace("_", " "), size(int(part)), MISSING] for name, part in (about.get("parts") or {}).items()
    ]
    if about.get("predicted_seconds"):
        rows.append(["training", duration(about["predicted_seconds"]), duration(values["train"]["seconds"])])
    return rows


def _logged(values: Mapping[str, Any], key: str) -> list[tuple[float, float]]:
    return [
        (record["step"], record[key])
        for record in values["train"]["history"]
        if record.get(key) is not None and record.get("step") is not None
    ]


def _bar(result: Mapping[str, Any] | None, unit: str) -> dict[str, Any]:
    """A cell with a bar as long as the share; other units have no natural length."""
    if result is None or result["value"] is None:
        return {"text": MISSING, "share": None}
    share = max(0.0, min(1.0, result["value"])) if unit == "share" else None
    return {"text": with_interval(result["value"], result["interval"], unit), "share": share}


def _words(outcome: str) -> str:
    return {"better": "better", "worse": "worse", "not_shown": "not shown"}.get(outcome, outcome)
