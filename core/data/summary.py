"""What the data stage says: a table of counts, and a line for everything left out or odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.recipe import Recipe
from core.sharing.variables import hide

HEADINGS = ("data", "rows", "examples", "tokens", "trained", "dropped", "straddling")


def lines_about(stats: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """The lines to print about prepared data. stats: as in `Data.stats`."""
    stats = hide(stats, recipe)
    rows: list[Sequence[str]] = [HEADINGS]
    remarks: list[str] = []
    for role, key in (("train", "datasets"), ("validation", "validation")):
        for entry in stats[key]:
            rows.append(_row(role, entry))
            remarks += _remarks(entry, stats["sequence_len"])
    for entry in stats["evaluation"]:
        if not entry["items"]:
            remarks.append(
                f"note: {entry['path']}: its rows have no answer to compare with, so it serves validation alone"
            )
        rows.append((f"evaluation {entry['path']}", "", f"{entry['items']:,}", "", "", "", ""))
    if stats["val"] and not stats["validation"]:
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
    if stats["validation_overlap"]:
        same = _examples(stats["validation_overlap"])
        remarks.append(
            f"warning: {same} of the validation data are in the training data too: validation loss will flatter"
        )
    return [*_table(rows), *remarks]


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


def _remarks(entry: Mapping[str, Any], sequence_len: int) -> list[str]:
    name = entry["path"]
    fits = f"the longest has {entry['longest']:,} tokens, sequence_len {entry['length_99']} would fit 99 %"
    remarks = []
    if entry["dropped_too_long"]:
        count = entry["dropped_too_long"]
        remarks.append(f"warning: {name}: dropped {_examples(count)} longer than sequence_len {sequence_len}; {fits}")
    if entry["truncated"]:
        remarks.append(f"warning: {name}: cut {_examples(entry['truncated'])} to sequence_len {sequence_len}; {fits}")
    if entry["nothing_to_train"]:
        remarks.append(f"warning: {name}: dropped {_examples(entry['nothing_to_train'])} with nothing to train on")
    if entry["without_end"]:
        remarks.append(
            f"warning: {name}: {_examples(entry['without_end'])} whose last trained token is no end-of-turn token: "
            "the model does not learn to stop there"
        )
    if entry["straddling"]:
        count = entry["straddling"]
        tokens = "1 token reaches" if count == 1 else f"{count:,} tokens reach"
        remarks.append(
            f"note: {name}: {tokens} over the seam of trained and untrained text, and count as what they start in"
        )
    remarks += [f"note: {name}: {_examples(count)}: {note}" for note, count in entry["notes"].items()]
    return remarks


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
