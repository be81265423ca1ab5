"""The comparison for people: as text for the terminal, and as a page of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.evaluation.paired import LEVEL
from core.report.figures import MISSING, cell, duration
from core.report.templating import render, source
from core.rounding import percent_of

WIDTH = 100
OUTCOMES = {"better": "better", "worse": "worse", "not_shown": "no difference shown"}
MOST_COLUMNS = 6  # of a table, with the names
SHOWN_VALUE = 60  # characters of a recipe's value


def comparison_text(values: Mapping[str, Any]) -> str:
    """The tables and the differences in words, for a terminal of any width from 100 columns on."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    if console.width < WIDTH:
        console = Console(highlight=False, width=WIDTH)
    with console.capture() as captured:
        for rows in (_upright(figure_rows(values)), recipe_rows(values)):
            if len(rows) > 1:
                table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
                for title in rows[0]:
                    table.add_column(escape(title), justify="left", overflow="fold")
                for row in rows[1:]:
                    table.add_row(*map(escape, row))
                console.print(table)
                console.print()
        for line in difference_lines(values):
            console.print(f"[bold]{escape(line)}[/bold]")
        for note in values["notes"]:
            console.print(f"[dim]{escape(_sentence(note))}[/dim]")
    return captured.get().rstrip()


def comparison_page(values: Mapping[str, Any]) -> str:
    """One self-contained page."""
    return render(
        "compare.html.j2",
        values=values,
        style=source("report.css"),
        script=source("scroll.js"),
        figures=_upright(figure_rows(values)),
        recipes=recipe_rows(values),
        differences=difference_lines(values),
        notes=[_sentence(note) for note in values["notes"]],
    )


def figure_rows(values: Mapping[str, Any]) -> list[list[str]]:
    """The header, then one row per run: its figures, and what its training took."""
    metrics = values["metrics"]
    rows = [["", *(name.replace("_", " ") for name in metrics), "trained", "steps", "training"]]
    for run in values["runs"]:
        cells = [cell(run["figures"][name], about["unit"]) for name, about in metrics.items()]
        name = run["name"] if run["column"] == "tuned" else f"{run['name']} ({run['column']})"
        rows.append([name, *cells, f"{run['parameters']:,}", f"{run['steps']:,}", duration(run["seconds"])])
    return rows


def recipe_rows(values: Mapping[str, Any]) -> list[list[str]]:
    """The header, then one row per key that the recipes do not share."""
    rows = [["recipe", *(run["name"] for run in values["runs"])]]
    for key, given in values["recipes"].items():
        rows.append([key, *(MISSING if value is None else _short(str(value)) for value in given)])
    return rows


def _upright(rows: list[list[str]]) -> list[list[str]]:
    """A row per figure instead of one per run where there are more figures than fit side by side."""
    wide = len(rows[0]) > max(len(rows), MOST_COLUMNS)
    return [list(row) for row in zip(*rows, strict=True)] if wide else rows


def difference_lines(values: Mapping[str, Any]) -> list[str]:
    """A sentence per comparison: the difference with its interval, the test, and what it comes to."""
    lines = []
    for found in values["comparisons"]:
        unit = values["metrics"][found["metric"]]["unit"]
        text = f"{found['run']} against {found['against']}, {found['metric'].replace('_', ' ')}: "
        text += f"{_outcome(found, len(values['comparisons']))}, {_points(found['difference'], unit)}"
        if found["interval"]:
            low, high = (_points(bound, unit) for bound in found["interval"])
            text += f" (95 % interval {low.removesuffix(' points').removesuffix(' s')} to {high})"
        text += f", p = {found['p_value']:.2g}"
        if len(values["comparisons"]) > 1:
            text += f" ({found['p_value_holm']:.2g} corrected)"
        lines.append(f"{text}; {found['fixed']} items better, {found['broken']} worse, of {found['n']}")
    return lines


def _outcome(found: Mapping[str, Any], comparisons: int) -> str:
    """Better, worse, or no difference shown; and why not, where the interval alone would say otherwise."""
    text, interval = OUTCOMES[found["outcome"]], found["interval"]
    if found["outcome"] != "not_shown" or not interval or interval[0] <= 0 <= interval[1]:
        return text
    if found["p_value"] < LEVEL:
        return f"{text} among {comparisons} comparisons"
    return f"{text}, for the paired test does not bear out the interval"


def _points(value: float, unit: str) -> str:
    if unit == "share":
        return f"{percent_of(value, 1, signed=True)} points"
    return f"{value:+.3g}{' s' if unit == 'seconds' else ''}"


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_VALUE else f"{text[: SHOWN_VALUE - 1]}…"
