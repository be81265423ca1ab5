"""Charts as SVG text, small enough to need no plotting library in the run folder or the install.

Classes `line-0`, `line-1`, ... carry the colours, so that the page's style decides them for light and dark; each chart
says in its `aria-label` what it shows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 12, 40
TICKS = 5
BINS = 30
BAND = 70  # height of one histogram among several
LETTER = 8.2  # width of a letter, about

Points = Sequence[tuple[float, float]]


def line_chart(series: Mapping[str, Points], *, x_label: str, y_label: str) -> str:
    """One polyline per entry of `series`, with axes and a legend; an empty text where there is nothing to draw.

    The x axis counts whole things (steps), so that its ticks are whole numbers.
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

    parts = [_opened(HEIGHT, _spoken(series, y_label))]
    for tick in _ticks(y_low, y_high):
        left, down = place(x_low, tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - RIGHT}" y1="{down}" y2="{down}"/>')
        parts.append(f'<text x="{left - 6}" y="{down + 4}" text-anchor="end">{tick:.3g}</text>')
    for tick in _ticks(x_low, x_high, least=1):
        across, _ = place(tick, y_low)
        parts.append(f'<text x="{across}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{tick:.6g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_label)}</text>')
    legend = float(LEFT)
    for index, (name, line) in enumerate(series.items()):
        placed = [place(x, y) for x, y in line]
        path = " ".join(f"{across},{down}" for across, down in placed)
        parts.append(f'<polyline class="line-{index}" points="{path}"/>')
        parts += [f'<circle class="line-{index}" cx="{a}" cy="{d}" r="3"/>' for a, d in placed if len(placed) <= 50]
        parts.append(
            f'<line class="line-{index}" x1="{legend}" x2="{legend + 22}" y1="{HEIGHT - 10}" y2="{HEIGHT - 10}"/>'
        )
        parts.append(f'<text class="legend" x="{legend + 28}" y="{HEIGHT - 6}">{escape(name)}</text>')
        legend += 52 + LETTER * len(name)
    return "".join([*parts, "</svg>"])


def histograms(
    series: Mapping[str, Sequence[float]], *, x_label: str, form: Callable[[float], str] = "{:g}".format
) -> str:
    """One band of bars per entry of `series` over a common axis, with its median; an empty text where nothing is."""
    series = {name: values for name, values in series.items() if values}
    every = [value for values in series.values() for value in values]
    if not every:
        return ""
    high = max(every) or 1.0
    # counts get bars of whole numbers
    width = max(1, math.ceil(high / BINS)) if all(float(value).is_integer() for value in every) else high / BINS
    count = int(high // width) + 1
    height = BAND * len(series) + BOTTOM
    spoken = "; ".join(
        f"{name}: median {form(statistics.median(values))}, largest {form(max(values))}, {len(values)} values"
        for name, values in series.items()
    )
    parts = [_opened(height, f"{x_label}: {spoken}")]
    step = (WIDTH - LEFT - RIGHT) / count
    for row, (name, values) in enumerate(series.items()):
        bins = [0] * count
        for value in values:
            bins[min(count - 1, int(value // width))] += 1
        floor, tallest = BAND * (row + 1), max(bins)
        for number, held in enumerate(bins):
            if held:
                bar = max(1.0, (BAND - 28) * held / tallest)
                title = f"{form(number * width)} to {form((number + 1) * width)}: {held}"
                parts.append(
                    f'<rect class="line-{row}" x="{LEFT + number * step:.1f}" y="{floor - bar:.1f}" '
                    f'width="{max(1.0, step - 1):.1f}" height="{bar:.1f}"><title>{escape(title)}</title></rect>'
                )
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>')
        label = f"{name}: median {form(statistics.median(values))}, largest {form(max(values))}"
        parts.append(f'<text class="legend" x="{LEFT}" y="{floor - BAND + 18}">{escape(label)}</text>')
    for tick in _ticks(0, count * width):
        across = LEFT + tick / width * step
        parts.append(f'<text x="{across:.1f}" y="{height - BOTTOM + 16}" text-anchor="middle">{tick:.6g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{height - 6}" text-anchor="end">{escape(x_label)}</text>')
    return "".join([*parts, "</svg>"])


def _opened(height: float, spoken: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(spoken)}">'


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, least: float = 0) -> list[float]:
    """Round numbers inside [low, high], about five of them, `least` apart at least."""
    rough = (high - low) / TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = max(least, next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))
    first = math.ceil(low / step)
    return [round(index * step, 10) for index in range(first, math.floor(high / step) + 1)]


def _spoken(series: Mapping[str, Points], y_label: str) -> str:
    """The chart in a sentence, for readers who cannot see it."""
    return "; ".join(
        f"{y_label}, {name}: from {line[0][1]:.3g} at {line[0][0]:g} to {line[-1][1]:.3g} at {line[-1][0]:g}"
        for name, line in series.items()
        if line
    )
