"""A line chart as SVG text, small enough to need no plotting library in the run folder or the install."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 40
TICKS = 5

Points = Sequence[tuple[float, float]]


def line_chart(series: Mapping[str, Points], *, x_label: str, y_label: str) -> str:
    """One polyline per entry of `series`, with axes and a legend; an empty text where there is nothing to draw.

    Classes `line-0`, `line-1`, ... carry the colours, so that the page's style decides them for light and dark.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    x_low, x_high = _range([x for x, _ in points])
    y_low, y_high = _range([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return round(across, 1), round(down, 1)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_spoken(series, y_label))}">'
    ]
    for tick in _ticks(y_low, y_high):
        left, down = place(x_low, tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - RIGHT}" y1="{down}" y2="{down}"/>')
        parts.append(f'<text x="{left - 6}" y="{down + 4}" text-anchor="end">{tick:.3g}</text>')
    for tick in _ticks(x_low, x_high):
        across, down = place(tick, y_low)
        parts.append(f'<text x="{across}" y="{down + 16}" text-anchor="middle">{tick:.6g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_label)}</text>')
    for index, (name, line) in enumerate(series.items()):
        placed = [place(x, y) for x, y in line]
        path = " ".join(f"{across},{down}" for across, down in placed)
        parts.append(f'<polyline class="line-{index}" points="{path}"/>')
        parts += [f'<circle class="line-{index}" cx="{a}" cy="{d}" r="3"/>' for a, d in placed if len(placed) <= 50]
        parts.append(
            f'<text class="legend line-{index}" x="{LEFT + 10 + 110 * index}" y="{HEIGHT - 6}">{escape(name)}</text>'
        )
    return "".join([*parts, "</svg>"])


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers inside [low, high], about five of them."""
    rough = (high - low) / TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [round(index * step, 10) for index in range(first, math.floor(high / step) + 1)]


def _spoken(series: Mapping[str, Points], y_label: str) -> str:
    """The chart in a sentence, for readers who cannot see it."""
    return "; ".join(
        f"{y_label}, {name}: from {line[0][1]:.3g} at {line[0][0]:g} to {line[-1][1]:.3g} at {line[-1][0]:g}"
        for name, line in series.items()
    )
