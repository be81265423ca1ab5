"""What differs between runs: figures, paired differences against the first run, and the recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.comparison.columns import column_of, metric_plan, testable
from core.comparison.recipes import meant_options, metric_entries, recipe_differences
from core.comparison.runs import FinishedRun, Line
from core.evaluation.paired import compare, correct
from core.host import Host
from core.results import ColumnReport, MetricResult

CAVEAT = "each run is one training: how much another seed would differ is not included"
FIRST = "of a run with repeats its first training is compared: how much another seed would differ is not included"


def side_by_side(
    runs: Sequence[FinishedRun], lines: Sequence[Sequence[Line]], host: Host, *, note: str = ""
) -> dict[str, Any]:
    """Everything that `tunesmith compare` tells, JSON-ready. lines: those of every run on the shared items.

    Every run is compared with the first, on each metric that both measured in the same way, with a paired interval and
    test; p-values are corrected for the number of comparisons (Holm), and what does not stand after that is not shown.
    """
    whole = all(len(shared) == len(run.lines) for run, shared in zip(runs, lines, strict=True))
    metrics, apart = _common_metrics(runs, host)
    again = any(run.values.get("repeats") for run in runs)
    plans = {name: metric_plan(name, about, host) for name, about in metrics.items()}
    columns = [column_of(run, shared, plans, whole=whole) for run, shared in zip(runs, lines, strict=True)]
    comparisons = []
    for metric, plan in plans.items():
        for column in columns[1:]:
            if not testable(plan, column, columns[0]):
                untested = f"{metric.replace('_', ' ')} is shown and not tested: it is no mean over the items, and what"
                apart.append(f"{untested} it is summed up from is not kept with {column.name} and {columns[0].name}")
            elif _paired(metric, column, columns[0]):
                comparisons.append({"run": column.name, **compare(plan, column, columns[0])})
    correct(comparisons)
    return {
        "runs": [
            {
                "name": run.name,
                "path": str(run.path),
                "column": run.column,
                "base_model": run.values["base_model"],
                "adapter": run.values["adapter"],
                "finished": run.values["finished"],
                "steps": run.values["train"]["steps"],
                "tokens": run.values["train"]["tokens"],
                "seconds": run.values["train"]["seconds"],
                "parameters": run.values["parameters"]["trained"],
                "figures": {name: _figures(column.metrics[name]) for name in metrics},
            }
            for run, column in zip(runs, columns, strict=True)
        ],
        "items": len(lines[0]),
        "metrics": {name: {key: about[key] for key in ("unit", "higher_is_better")} for name, about in metrics.items()},
        "comparisons": comparisons,
        "recipes": recipe_differences(runs, host),
        "changed": _changed_items(runs, lines, metrics),
        "notes": [text for text in (note, *apart, FIRST if again else CAVEAT) if text],
    }


def _common_metrics(runs: Sequence[FinishedRun], host: Host) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The metrics that every run has with the same options, and what is to be said of the others."""
    notes, common = [], {}
    entries = [metric_entries(run) for run in runs]
    for name in dict.fromkeys(name for run in runs for name in run.values["metrics"]):
        said = name.replace("_", " ")
        lacking = [run.name for run in runs if name not in run.values["evaluation"][run.column]]
        if lacking:
            notes.append(f"{said} is not compared: {', '.join(lacking)} did not measure it")
            continue
        options = [meant_options(run, own.get(name, {}), host) for run, own in zip(runs, entries, strict=True)]
        if any(other != options[0] for other in options[1:]):
            notes.append(f"{said} is not compared: the runs measured it with different options")
        else:
            common[name] = {**runs[0].values["metrics"][name], **(entries[0].get(name) or {"type": name})}
    return common, notes


def _paired(metric: str, one: ColumnReport, other: ColumnReport) -> bool:
    scores = zip(one.metrics[metric].scores, other.metrics[metric].scores, strict=True)
    return any(a is not None and b is not None for a, b in scores)


def _figures(result: MetricResult) -> dict[str, Any]:
    return {"value": result.value, "interval": list(result.interval) if result.interval else None, "n": result.n}


def _changed_items(
    runs: Sequence[FinishedRun], lines: Sequence[Sequence[Line]], metrics: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The items on whose score by the first share the runs do not agree, with every run's answer."""
    judged = next((name for name, about in metrics.items() if about["unit"] == "share"), None)
    changed = []
    for position, line in enumerate(lines[0] if judged else ()):
        answers = [shared[position]["answers"][run.column] for run, shared in zip(runs, lines, strict=True)]
        scores = [answer["scores"].get(judged) for answer in answers]
        if any(score != scores[0] for score in scores):
            changed.append(
                {
                    "place": line["place"],
                    "prompt": line["prompt"],
                    "references": line["references"],
                    "metric": judged,
                    "answers": [
                        {"text": answer["text"], "score": s} for answer, s in zip(answers, scores, strict=True)
                    ],
                }
            )
    return changed
