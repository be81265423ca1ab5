"""report.html: one self-contained page with the verdict, the comparison, the curves and every held-out item."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.report import parts
from core.report.asked import asked, scored_by
from core.report.figures import column_label, comparison_header, comparison_rows, demands, notes, run_rows
from core.report.further import further_figures
from core.report.matrix import confusions
from core.report.templating import render, source
from core.rounding import rounded


def report_page(values: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]], lock: str = "") -> str:
    """The page as text. It loads nothing from anywhere: style, script and data are inside. lock: the lock file."""
    import yaml

    metric, names = deciding_metric(values), list(values["evaluation"])
    return render(
        "report.html.j2",
        values=values,
        rounded=rounded,
        style=source("report.css"),
        scripts=[source("diff.js"), source("scroll.js"), source("report.js")],
        header=comparison_header(values),
        rows=comparison_rows(values) if values["evaluation"] else [],
        facts=run_rows(values),
        notes=notes(values),
        strong=names.index("tuned") if "tuned" in names else None,
        gates=demands(values),
        asked=asked(values),
        scored_by=scored_by(values),
        further=further_figures(values),
        repeats=parts.repeats(values),
        slices=parts.slices(values, metric),
        columns=[column_label(values, name) for name in values["evaluation"]],
        forgetting=parts.forgetting(values),
        confusions=confusions(values),
        loss_chart=parts.loss_chart(values),
        metric_chart=parts.metric_chart(values),
        metric_words=parts.generated_during_training(values),
        length_chart=parts.length_chart(values, predictions),
        latency_chart=parts.latency_chart(values),
        audit=parts.audit(values),
        memory=parts.memory(values),
        items=_embedded(
            {
                "columns": [{"name": name, "label": column_label(values, name)} for name in values["evaluation"]],
                "metric": metric,
                "metrics": [name for name, about in values["metrics"].items() if about["unit"] == "share"],
                "format": next((name for name in values["metrics"] if name.startswith("format_compliance")), None),
                "items": predictions,
            }
        ),
        recipe=yaml.safe_dump(values["recipe"]["values"], sort_keys=False, allow_unicode=True).strip(),
        defaults=yaml.safe_dump(values["recipe"]["defaults"], sort_keys=True, allow_unicode=True).strip(),
        environment=json.dumps(values["environment"], indent=1, ensure_ascii=False),
        data=json.dumps(values["data"], indent=1, ensure_ascii=False),
        lock=lock.strip(),
    )


def deciding_metric(values: Mapping[str, Any]) -> str | None:
    """The metric by which an item counts as right or wrong: the one that decided, else the first that is a share."""
    decided = values["verdict"].get("metric")
    if decided in values["metrics"] and values["metrics"][decided]["unit"] == "share":
        return str(decided)
    return next((name for name, about in values["metrics"].items() if about["unit"] == "share"), None)


def _embedded(value: Any) -> str:
    """JSON that is safe inside a script element: no character sequence can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
