"""report.html: one self-contained page with the verdict, the comparison, the curves and every held-out item."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.report.chart import line_chart
from core.report.figures import LABELS, comparison_header, comparison_rows, notes, run_rows
from core.report.templating import render, source


def report_page(values: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> str:
    """The page as text. It loads nothing from anywhere: style, script and data are inside."""
    import yaml

    return render(
        "report.html.j2",
        values=values,
        style=source("report.css"),
        script=source("report.js"),
        header=comparison_header(values),
        rows=comparison_rows(values) if values["evaluation"] else [],
        facts=run_rows(values),
        notes=notes(values),
        chart=loss_chart(values),
        items=_embedded(
            {
                "columns": [{"name": name, "label": LABELS.get(name, name)} for name in values["evaluation"]],
                "metric": deciding_metric(values),
                "metrics": [name for name, about in values["metrics"].items() if about["unit"] == "share"],
                "items": predictions,
            }
        ),
        recipe=yaml.safe_dump(values["recipe"]["values"], sort_keys=False, allow_unicode=True).strip(),
        defaults=yaml.safe_dump(values["recipe"]["defaults"], sort_keys=True, allow_unicode=True).strip(),
        environment=json.dumps(values["environment"], indent=1, ensure_ascii=False),
        data=json.dumps(values["data"], indent=1, ensure_ascii=False),
    )


def deciding_metric(values: Mapping[str, Any]) -> str | None:
    """The metric by which an item counts as right or wrong: the one that decided, else the first that is a share."""
    decided = values["verdict"].get("metric")
    if decided in values["metrics"] and values["metrics"][decided]["unit"] == "share":
        return str(decided)
    return next((name for name, about in values["metrics"].items() if about["unit"] == "share"), None)


def loss_chart(values: Mapping[str, Any]) -> str:
    """The training loss of every step, and the validation loss where it was measured, as an SVG figure."""
    losses = values["train"]["losses"]
    training = [(step, loss) for step, loss in enumerate(losses, start=1) if loss is not None]
    validation = [
        (record["step"], record["eval_loss"])
        for record in values["train"]["history"]
        if record.get("eval_loss") is not None and record.get("step")
    ]
    series = {"training": training, "validation": validation}
    return line_chart(
        {name: points for name, points in series.items() if points}, x_label="step", y_label="loss per token"
    )


def _embedded(value: Any) -> str:
    """JSON that is safe inside a script element: no character sequence can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
