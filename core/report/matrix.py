"""Confusion matrices: which answer was given where which was expected, as SVG text and as the worst confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

SIDE = 560  # of the square of cells
NAMED = 30  # with more labels their names would not be legible at the margin
LONGEST = 26  # letters of a name at the margin
MARGIN = 190
LETTER = 7  # the width of a letter of them
WORST = 10
NO_LABEL = "no label"


def confusions(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per metric that has a confusion matrix, per column: the picture, the worst confusions, figures per label."""
    from core.report.figures import column_label

    found = []
    for metric in values["metrics"]:
        for column, metrics in values["evaluation"].items():
            details = metrics.get(metric, {}).get("details", {})
            if details.get("confusion"):
                found.append(
                    {
                        "metric": metric.replace("_", " "),
                        "column": column_label(values, column),
                        "open": column == "tuned",
                        "picture": matrix(details["labels"], details["confusion"]),
                        "worst": worst(details["labels"], details["confusion"]),
                        "per_label": details.get("per_label", {}),
                    }
                )
    if found and not any(one["open"] for one in found):
        found[-1]["open"] = True
    return found


def worst(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> list[tuple[str, str, int]]:
    """(expected, answered, how often) of the most frequent wrong answers; what is no label comes last in each row."""
    names = [*labels, NO_LABEL]
    pairs = [
        (labels[row], names[column], held)
        for row, cells in enumerate(counts)
        for column, held in enumerate(cells)
        if held and row != column
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:WORST]


def matrix(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Rows: expected, columns: answered, the last one no label. The shade is the share of the row."""
    size = len(labels)
    cell = min(34.0, SIDE / (size + 1))
    longest = max(len(name) for name in (*labels, NO_LABEL))
    room = min(MARGIN, 14 + LETTER * min(longest, LONGEST))  # for the names at both edges
    margin = room if size <= NAMED else 24
    slanted = room / 2 if size <= NAMED else 4  # names at the upper edge lean out to the right
    width, height = margin + cell * (size + 1) + slanted, margin + cell * size + 4
    right = sum(cells[row] for row, cells in enumerate(counts))
    total = sum(map(sum, counts))
    spoken = f"confusion matrix of {size} labels: {right} of {total} answers right"
    parts = [
        f'<svg class="chart matrix" viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px" role="img" '
        f'aria-label="{spoken}">'
    ]
    names = [*labels, NO_LABEL]
    if size <= NAMED:
        for number, name in enumerate(names):
            middle = margin + cell * (number + 0.65)
            short = escape(name if len(name) <= LONGEST else name[: LONGEST - 1] + "…")
            if number < size:
                parts.append(f'<text x="{margin - 6}" y="{middle:.1f}" text-anchor="end">{short}</text>')
            parts.append(f'<text transform="translate({middle:.1f} {margin - 6}) rotate(-60)">{short}</text>')
    else:
        parts.append(f'<text x="{margin}" y="14">answered (the last column: {NO_LABEL})</text>')
        parts.append(f'<text transform="translate(14 {margin + 60}) rotate(-90)">expected</text>')
    parts.append(
        f'<rect class="frame" x="{margin}" y="{margin}" width="{cell * (size + 1):.1f}" height="{cell * size:.1f}"/>'
    )
    for row, cells in enumerate(counts):
        for column, held in enumerate(cells):
            if not held:
                continue
            left, down = margin + column * cell, margin + row * cell
            kind = "hit" if row == column else "miss"
            title = escape(f"expected {labels[row]}, answered {names[column]}: {held}")
            parts.append(
                f'<rect class="{kind}" x="{left:.1f}" y="{down:.1f}" width="{cell:.1f}" height="{cell:.1f}" '
                f'fill-opacity="{0.15 + 0.85 * held / sum(cells):.2f}"><title>{title}</title></rect>'
            )
            if cell >= 20:
                place = f'x="{left + cell / 2:.1f}" y="{down + cell * 0.65:.1f}"'
                parts.append(f'<text class="held" {place} text-anchor="middle">{held}</text>')
    return "".join([*parts, "</svg>"])
