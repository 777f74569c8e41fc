"""Line charts as SVG: curves over the epochs on axes with round numbers, without a script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dbp.report.history import Series
from dbp.report.markup import Content, Markup, figure, grid, tag
from dbp.text import figure as number_text

WIDTH, HEIGHT = 380.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 12.0, 12.0, 28.0
LOG_RATIO = 30.0  # of the greatest to the least value, from which on the axis is logarithmic
MOST_DOTS = 120  # with a tooltip each, of a curve
MOST_LABELS = 7


@dataclass(frozen=True)
class Curve:
    """A curve of a chart.

    Args:
        name: what it is, in words.
        series: its points.
        style: the class that colors it.
        best: the epoch that is marked on it; 0 for none.
    """

    name: str
    series: Series
    style: str
    best: int = 0


class Axis(NamedTuple):
    """An axis: from numbers to pixels of the picture.

    Args:
        pixel: returns the pixel of a number.
        ticks: the numbers that are written beside it.
    """

    pixel: Callable[[float], float]
    ticks: Sequence[float]


def round_ticks(least: float, most: float, count: int = 5) -> list[float]:
    """Return about so many round numbers between two numbers."""
    if not (math.isfinite(most - least) and most > least):
        return [least] if math.isfinite(least) else []
    raw = (most - least) / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first = math.ceil(least / step - 1e-9)
    return [(first + i) * step for i in range(int((most - first * step) / step + 1e-9) + 1)]


def value_axis(values: np.ndarray[tuple[int], np.dtype[np.float64]], *, log: bool = True) -> Axis | None:
    """Return the vertical axis for some values; None if none is finite.

    Args:
        values: all that are drawn.
        log: whether it may be logarithmic, as it is where positive values differ much.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    least, most = float(finite.min()), float(finite.max())
    if log and least > 0 and most / least > LOG_RATIO:
        ends = math.log10(least), math.log10(most)
        powers = range(math.floor(ends[0]), math.ceil(ends[1]) + 1)
        step = max(1, len(powers) // 5)
        ticks = [10.0**power for power in powers[::step] if ends[0] - 0.02 <= power <= ends[1] + 0.02]
        return Axis(lambda value: _vertical(math.log10(value) if value > 0 else ends[0], *ends), ticks)
    if most == least:
        least, most = least - (abs(least) or 1) * 0.5, most + (abs(most) or 1) * 0.5
    margin = 0.04 * (most - least)
    if not math.isfinite(margin):
        return None
    low, high = least - margin, most + margin
    return Axis(lambda value: _vertical(value, low, high), round_ticks(low, high))


def _vertical(value: float, least: float, most: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (most - value) / (most - least)


def epoch_axis(first: float, last: float) -> Axis:
    """Return the horizontal axis for the epochs from a first to a last one."""
    ends = (first, last) if last > first else (first - 0.5, last + 0.5)
    ticks = sorted({round(tick) for tick in round_ticks(first, last, MOST_LABELS - 1)})
    near = 0.09 * (last - first)  # of the first epoch, which is always named
    shown = [round(first), *(tick for tick in ticks if first + near < tick <= last)]
    return Axis(lambda epoch: LEFT + (WIDTH - LEFT - RIGHT) * (epoch - ends[0]) / (ends[1] - ends[0]), shown)


def tick_text(value: float) -> str:
    """Return a number of an axis as text."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.6g}"
    return f"{value:.2g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def chart(title: str, curves: Sequence[Curve], *, log: bool = True, note: Content = None) -> Markup:
    """Return a chart with its title and legend; empty if no curve has a finite value.

    Args:
        title: what the values are.
        curves: the curves, the most important last, as it is drawn above the others.
        log: whether the vertical axis may be logarithmic.
        note: a line below.
    """
    curves = [curve for curve in curves if np.isfinite(curve.series.values).any()]
    if not curves:
        return Markup()
    values = value_axis(np.concatenate([curve.series.values for curve in curves]), log=log)
    if values is None:
        return Markup()
    epochs = np.concatenate([curve.series.epochs for curve in curves])
    across = epoch_axis(float(epochs.min()), float(epochs.max()))
    drawing = [_axes(across, values), *(_curve(curve, across, values) for curve in curves)]
    words = ", ".join(f"{c.name} from {_value(c, 0)} to {_value(c, -1)}" for c in curves)
    svg = tag("svg", *drawing, viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", role="img", aria_label=f"{title} by epoch: {words}")
    legend = [
        tag("span", tag("i", class_=f"key {c.style}"), f"{c.name} ", tag("b", _value(c, -1)), class_="entry")
        for c in reversed(curves)
    ]
    return figure(
        [tag("span", title, class_="what"), grid(legend, class_="legend")], svg, note=note, class_="card chart"
    )


def _value(curve: Curve, row: int) -> str:
    value = float(curve.series.values[row])
    return f"{value:.4g}" if curve.style == "other" else number_text(value)


def _axes(across: Axis, values: Axis) -> Markup:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    lines = [_line(LEFT, values.pixel(tick), right, values.pixel(tick)) for tick in values.ticks]
    labels = [
        tag("text", tick_text(tick), x=f"{LEFT - 8:.1f}", y=f"{values.pixel(tick) + 4:.1f}", class_="y")
        for tick in values.ticks
    ]
    labels += [
        tag("text", f"{tick:,}", x=f"{across.pixel(tick):.1f}", y=f"{bottom + 19:.1f}", class_="x")
        for tick in across.ticks
    ]
    return tag("g", lines, _line(LEFT, bottom, right, bottom, "base"), labels, class_="axes")


def _line(x1: float, y1: float, x2: float, y2: float, style: str | None = None) -> Markup:
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=style)


def _curve(curve: Curve, across: Axis, values: Axis) -> Markup:
    """Return the line of a curve, a dot with a tooltip for points as far as there are few, and its best epoch."""
    pairs = zip(curve.series.epochs.tolist(), curve.series.values.tolist(), strict=True)
    points = [
        (epoch, value, across.pixel(epoch), values.pixel(value)) for epoch, value in pairs if math.isfinite(value)
    ]
    path = "".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (_, _, x, y) in enumerate(points))
    every = -(-len(points) // MOST_DOTS)
    dots = [_dot(curve.name, epoch, value, x, y) for epoch, value, x, y in points[::every]]
    best = [
        [
            _line(x, TOP, x, HEIGHT - BOTTOM, "best"),
            tag("circle", tag("title", f"best epoch: {epoch:.0f}"), cx=f"{x:.1f}", cy=f"{y:.1f}", r=5, class_="best"),
        ]
        for epoch, _, x, y in points
        if curve.best and epoch == curve.best
    ]
    lone = " lone" if len(points) == 1 else ""
    return tag("g", tag("path", d=path), dots, best, class_=f"curve {curve.style}{lone}")


def _dot(name: str, epoch: float, value: float, x: float, y: float) -> Markup:
    words = tag("title", f"epoch {epoch:.0f}: {name} {number_text(value)}")
    return tag("circle", words, cx=f"{x:.1f}", cy=f"{y:.1f}", r=4, class_="dot")
