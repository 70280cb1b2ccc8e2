"""Geometry of the pictures on a page: where lines, points and ticks go. What they look like is the style sheet's.

curve_plot  curves over positions, with bands and a threshold
strip       an effect with its interval, beside its null and its threshold
forest      margins with their intervals, on one scale

All numbers are in the units of a picture `WIDTH` wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from reports.curves import Curve
from reports.finding import Finding
from reports.text import number

WIDTH, LEFT, RIGHT = 400.0, 42.0, 10.0
HEIGHT, TOP, BOTTOM = 230.0, 10.0, 36.0
STRIP_HEIGHT, STRIP_BASE = 92.0, 56.0
FOREST_WIDTH = 160.0
MOST_CURVES = 10
MIN_DRAWS = 5
MOST_POINTS = 60
TICKS = 5


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Drawn:
    """A curve as an SVG path, its points, and its band as a filled path."""

    name: str
    path: str
    points: tuple[tuple[float, float], ...]
    band: str


@dataclass(frozen=True)
class Column:
    """What stands at one position: a strip to hover over, and the values of all curves there."""

    x: float
    width: float
    position: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CurvePlot:
    curves: tuple[Drawn, ...]
    columns: tuple[Column, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    threshold: float | None
    left_out: int


@dataclass(frozen=True)
class Strip:
    """An effect at `at` with its interval, above the histogram of its null."""

    at: float
    low: float | None
    high: float | None
    threshold: float | None
    bars: tuple[tuple[float, float, float, int], ...]  # x, width, height, draws
    ticks: tuple[Tick, ...]
    draws: int


@dataclass(frozen=True)
class Whisker:
    """A margin at `at` with its interval; None for what has none."""

    at: float | None
    low: float | None
    high: float | None
    zero: float


class Scale:
    """From numbers to places in a picture."""

    def __init__(self, values: Iterable[float], start: float, end: float, room: float = 0.05) -> None:
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(finite), max(finite)
        margin = (high - low) * room or abs(high) * 0.1 or 1.0
        self.low, self.high, self.start, self.end = low - margin, high + margin, start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, whole: bool = False) -> tuple[Tick, ...]:
        """About five, at round numbers."""
        step = 10 ** math.floor(math.log10((self.high - self.low) / TICKS))
        step *= next(by for by in (1, 2, 5, 10) if (self.high - self.low) / (step * by) <= TICKS)
        if whole:
            step = max(1.0, float(round(step)))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return tuple(Tick(self(at * step), number(at * step + 0.0)) for at in range(first, last + 1))


def curve_plot(curves: Sequence[Curve], threshold: float | None = None) -> CurvePlot:
    """Curves over positions. Of many the first are drawn, and the rest counted."""
    shown = curves[:MOST_CURVES]
    positions = [x for curve in shown for x in curve.positions]
    ends = [end for curve in shown for pair in curve.band if pair for end in pair]
    values = [y for curve in shown for y in curve.values] + ends + ([] if threshold is None else [threshold])
    x, y = Scale(positions, LEFT, WIDTH - RIGHT, 0.03), Scale(values, HEIGHT - BOTTOM, TOP)
    return CurvePlot(
        curves=tuple(_drawn(curve, x, y) for curve in shown),
        columns=_columns(shown, x),
        x_ticks=x.ticks(whole=all(at == int(at) for at in positions)),
        y_ticks=y.ticks(),
        threshold=None if threshold is None else y(threshold),
        left_out=len(curves) - len(shown),
    )


def strip(finding: Finding) -> Strip | None:
    """None for a finding without an effect."""
    if finding.effect is None:
        return None
    draws = [draw for draw in finding.null if draw is not None]
    draws = draws if len(draws) >= MIN_DRAWS else []
    known = [finding.effect, *(finding.interval or ()), *draws]
    x = Scale([*known, *([] if finding.at_least is None else [finding.at_least])], 12.0, WIDTH - 12.0)
    low, high = finding.interval or (None, None)
    return Strip(
        at=x(finding.effect),
        low=None if low is None else x(low),
        high=None if high is None else x(high),
        threshold=None if finding.at_least is None else x(finding.at_least),
        bars=_histogram(draws, x),
        ticks=x.ticks(),
        draws=len(draws),
    )


def forest(margins: Sequence[tuple[float | None, tuple[float, float] | None]]) -> list[Whisker]:
    """On one scale, which holds 0."""
    known = [value for margin, interval in margins for value in (margin, *(interval or ())) if value is not None]
    x = Scale([0.0, *known], 4.0, FOREST_WIDTH - 4.0)

    def at(value: float | None) -> float | None:
        return None if value is None else x(value)

    made = []
    for margin, interval in margins:
        low, high = interval or (None, None)
        made.append(Whisker(at(margin), at(low), at(high), zero=x(0.0)))
    return made


def _drawn(curve: Curve, x: Scale, y: Scale) -> Drawn:
    ordered = sorted(zip(curve.positions, curve.values, strict=True))
    points = [(x(at), y(value)) if math.isfinite(value) else None for at, value in ordered]
    whole = [point for point in points if point]
    edges = [(x(at), y(ends[0]), y(ends[1])) for at, ends in zip(curve.positions, curve.band, strict=False) if ends]
    band = [(at, high) for at, _, high in edges] + [(at, low) for at, low, _ in reversed(edges)]
    return Drawn(
        name=curve.name,
        path=_path(points),
        points=tuple(whole) if len(whole) <= MOST_POINTS else (),
        band=f"{_path(band)}Z" if band else "",
    )


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """With a gap wherever there is no point."""
    steps, pen = [], False
    for point in points:
        if point:
            steps.append(f"{'L' if pen else 'M'}{point[0]:g} {point[1]:g}")
        pen = point is not None
    return "".join(steps)


def _columns(curves: Sequence[Curve], x: Scale) -> tuple[Column, ...]:
    """One for each position that any curve has, as wide as to reach half way to its neighbours."""
    places = sorted({at for curve in curves for at in curve.positions})
    if len(places) > 200:
        return ()
    found = [dict(zip(curve.positions, curve.values, strict=True)) for curve in curves]
    middles = [x((one + other) / 2) for one, other in pairwise(places)]
    bounds = [LEFT, *middles, WIDTH - RIGHT]
    columns = []
    for place, (start, end) in zip(places, pairwise(bounds), strict=True):
        values = tuple(
            (curve.name, number(known[place]))
            for curve, known in zip(curves, found, strict=True)
            if math.isfinite(known.get(place, math.nan))
        )
        columns.append(Column(start, round(end - start, 1), number(place), values))
    return tuple(columns)


def _histogram(draws: Sequence[float], x: Scale) -> tuple[tuple[float, float, float, int], ...]:
    if not draws:
        return ()
    low, high = min(draws), max(draws)
    count = min(30, max(8, len(draws) // 8))
    width = (high - low) / count or 1.0
    bins = [0] * count
    for draw in draws:
        bins[min(count - 1, int((draw - low) / width))] += 1
    tall = STRIP_BASE - 14.0
    bars = []
    for place, size in enumerate(bins):
        start, end = x(low + place * width), x(low + (place + 1) * width) if high > low else x(low) + 3
        bars.append((start, round(max(end - start, 0.8), 1), round(size / max(bins) * tall, 1), size))
    return tuple(bar for bar in bars if bar[3])
