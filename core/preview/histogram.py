"""A histogram as SVG text, drawn here so that the page needs no plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 520, 180, 46, 34, 10
BARS = 30


def histogram(values: Sequence[float], *, title: str, form: str = "{:,.0f}", top: float | None = None) -> str:
    """How `values` (none negative) are spread, from 0 to their maximum or `top`; an empty text without values."""
    if not values:
        return ""
    highest = max(top or max(values), 1e-9)
    counts = [0] * BARS
    for value in values:
        counts[min(BARS - 1, int(value / highest * BARS))] += 1
    most = max(counts)
    width = (WIDTH - LEFT) / BARS
    bars = []
    for index, count in enumerate(counts):
        tall = count / most * (HEIGHT - TOP - BOTTOM)
        low, high = (form.format(highest * edge / BARS) for edge in (index, index + 1))
        place = f'x="{LEFT + index * width:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}"'
        words = f"{low} to {high}: {count:,}"
        bars.append(f'<rect {place} width="{width - 1:.1f}" height="{tall:.1f}"><title>{words}</title></rect>')
    ticks = [
        f'<text x="{LEFT + share * (WIDTH - LEFT):.0f}" y="{HEIGHT - 16}" text-anchor="{anchor}">'
        f"{form.format(highest * share)}</text>"
        for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    ]
    heights = f'<text x="{LEFT - 6}" y="{TOP + 10}" text-anchor="end">{most:,}</text>'
    middle = f"half of them at {form.format(sorted(values)[len(values) // 2])} or less"
    return (
        f'<figure><svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}: {len(values):,} examples, {escape(middle)}">'
        f"{''.join((*bars, *ticks, heights))}</svg><figcaption>{escape(title)}; {escape(middle)}</figcaption></figure>"
    )
