"""What the data stage says: a table of counts, and a line for everything left out or odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.recipe import Recipe
from core.sharing.variables import hide

HEADINGS = ("data", "rows", "examples", "tokens", "trained", "dropped", "straddling")


def lines_about(stats: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """The lines to print about prepared data. stats: as in `Data.stats`."""
    rows, remarks = _rows_and_remarks(hide(stats, recipe), recipe)
    return [*_table(rows), *remarks]


def remarks_about(stats: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Those lines that are no table: what was left out, what is odd, and of which data all this is."""
    return _rows_and_remarks(hide(stats, recipe), recipe)[1]


def _rows_and_remarks(stats: Mapping[str, Any], recipe: Recipe) -> tuple[list[Sequence[str]], list[str]]:
    rows: list[Sequence[str]] = [HEADINGS]
    remarks: list[str] = []
    for role, key in (("train", "datasets"), ("validation", "validation")):
        for entry in stats[key]:
            first = stats.get("streamed") if role == "train" else None
            rows.append(_row("first rows of" if first and entry["rows"] >= first else role, entry))
            remarks += [*_streamed(entry, first, stats["datasets"]), *_unweighted(entry)] if first else _remarks(entry)
    for entry in stats["evaluation"]:
        remarks += _skipped(entry)
        if not entry["items"]:
            remarks.append(
                f"note: {entry['path']}: its rows have no answer to compare with, so it serves validation alone"
            )
        rows.append((f"evaluation {entry['path']}", "", f"{entry['items']:,}", "", "", "", ""))
    if stats.get("val") and not stats["validation"]:
        val = stats["val"]
        share = f"{val['trained_tokens'] / val['tokens']:.1%}"
        rows.append(
            (
                f"of these, val_set_size {recipe['val_set_size']:g}",
                "",
                f"{val['examples']:,}",
                f"{val['tokens']:,}",
                share,
                "",
                "",
            )
        )
    return rows, remarks


def _row(role: str, entry: Mapping[str, Any]) -> Sequence[str]:
    dropped = entry["dropped_too_long"] + entry["nothing_to_train"]
    numbers = (f"{entry[key]:,}" for key in ("rows", "examples", "tokens"))
    return (
        f"{role} {entry['path']}",
        *numbers,
        f"{entry['trained_share']:.1%}",
        f"{dropped:,}",
        f"{entry['straddling']:,}",
    )


def _remarks(entry: Mapping[str, Any]) -> list[str]:
    return [*_weighted(entry), *_unweighted(entry)]


def _unweighted(entry: Mapping[str, Any]) -> list[str]:
    notes = [f"note: {entry['path']}: {_examples(count)}: {note}" for note, count in entry["notes"].items()]
    return [*_skipped(entry), *notes]


def _streamed(entry: Mapping[str, Any], first: int, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """How much of a data set has been seen that is read while training, and how often it is drawn from."""
    share = entry["weight"] / sum(other["weight"] for other in entries)
    drawn = f", {share:.0%} of the rows of training drawn from it" if len(entries) > 1 else ""
    if entry["rows"] < first:
        return [f"note: {entry['path']}: it is read while training{drawn}; counts and audit are of all its rows"]
    return [
        f"warning: {entry['path']}: it is read while training{drawn}; counts and audit are of its first {first:,} "
        "rows; of those behind them only held-out rows are known again"
    ]


def _weighted(entry: Mapping[str, Any]) -> list[str]:
    """What the weight of a data set makes of its examples."""
    if entry["weight"] == 1 or "in_one_pass" not in entry:
        return []
    times = f"{_examples(entry['in_one_pass'])} in one pass over the data, of {entry['trained_on']:,} different ones"
    return [f"note: {entry['path']}: weight {entry['weight']:g}: {times}"]


def _skipped(entry: Mapping[str, Any]) -> list[str]:
    """The rows that `on_bad_row: skip` left out: how many, and the first of them."""
    if not entry["bad_rows"]:
        return []
    count, lines = entry["bad_rows"], entry["first_bad_rows"]
    share = f"{count:,} of {entry['rows']:,} rows ({count / entry['rows']:.1%})"
    head = f"warning: {entry['path']}: skipped {share} that cannot be used"
    more = [f"  ... and {count - len(lines):,} more"] if count > len(lines) else []
    return [head, *(f"  {line}" for line in lines), *more]


def _examples(count: int) -> str:
    return "1 example" if count == 1 else f"{count:,} examples"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join((first, *others)).rstrip())
    return lines
