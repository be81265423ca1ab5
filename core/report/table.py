"""The end of a run in the terminal: the comparison, what it took, and the verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.console import say
from core.report.figures import comparison_header, comparison_rows, demands, notes, run_rows
from core.report.sections import forgetting_table, slice_tables

MOST_COLUMNS = 4  # models side by side
MIN_WIDTH = 100  # a terminal narrower than this (or none at all) would break figures over lines


def say_table(values: Mapping[str, Any], output_dir: str) -> None:
    """Print the comparison, the run's figures and the verdict, on the main process."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if console.width < MIN_WIDTH:
        console = Console(highlight=False, width=MIN_WIDTH)
    with console.capture() as captured:
        if values["evaluation"]:
            table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
            titles, *rows = _turned([comparison_header(values), *comparison_rows(values)])
            for title in titles:
                table.add_column(title, justify="left", overflow="fold")
            for row in rows:
                table.add_row(*row)
            console.print(table)
            for title, rows in [*slice_tables(values), ("", forgetting_table(values))]:
                if rows:
                    console.print()
                    console.print(_table(rows, title))
            console.print()
            for note in notes(values):
                console.print(f"[dim]{_escaped(note)}[/dim]")
            console.print()
        facts = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
        for label, text in run_rows(values):
            facts.add_row(label, text)
        console.print(facts)
        console.print()
        console.print(f"[bold]{_escaped(values['verdict']['words'])}[/bold]")
        for gate in demands(values):
            console.print(_escaped(f"gate: {gate['words']}"), style=None if gate["passed"] else "bold red")
        console.print(_escaped(f"report: {output_dir}/report.html"))
    say(captured.get().rstrip())


def _table(rows: list[list[str]], title: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold", title=title or None)
    table.title_justify, table.title_style = "left", "bold"
    for name in rows[0]:
        table.add_column(_escaped(name), justify="left", overflow="fold")
    for row in rows[1:]:
        table.add_row(*map(_escaped, row))
    return table


def _turned(rows: list[list[str]]) -> list[list[str]]:
    """The table as it is, or with a row per column where it has too many of them to stand side by side."""
    return rows if len(rows[0]) - 1 <= MOST_COLUMNS else [list(row) for row in zip(*rows, strict=True)]


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
