"""Line charts of a training's numbers as SVG: pure functions of rows, no library, light and dark by CSS.

A chart stays small however long the training was: a series is thinned to the extremes of equal stretches of steps, so
that no peak is lost. What is not a finite number is a gap in the line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from studio.ui.words import escape

MAX_POINTS = 300
WIDTH, HEIGHT = 340, 176
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 10, 24
SMOOTHED = 16  # the running mean is over this part of the line
DECADES_FOR_LOG = 2  # a range of so many powers of ten is drawn on a logarithmic axis

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line: step and value, in the order of the steps."""

    name: str
    points: Sequence[Point]
    kind: str = "main"  # a class of train.css: "main", "other" (dashed)


@dataclass(frozen=True)
class Chart:
    """What one figure shows and what it means."""

    title: str
    help: str
    series: Sequence[Series]
    low: float | None = None  # fixed bounds of the axis, where the number has some
    high: float | None = None
    percent: bool = False
    may_be_log: bool = False
    guide: float | None = None  # a value that means something, drawn as a line


def chart(figure: Chart) -> str:
    """The figure with title, last values, axes and lines; says so where there is nothing to draw yet."""
    drawn = [point for series in figure.series for point in series.points if math.isfinite(point[1])]
    if not drawn:
        return ""
    axis = _Axis.of(figure, drawn)
    last = max(step for series in figure.series for step, _ in series.points)
    first = min(step for series in figure.series for step, _ in series.points)
    frame = _Frame(first, max(last, first + 1), axis)
    lines = "".join(_line(series, frame) for series in figure.series)
    return (
        f'<figure class="duo-plot"><figcaption><h4>{escape(figure.title)}</h4>{_legend(figure)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_spoken(figure))}">'
        f"{_grid(figure, frame)}{lines}</svg><p>{escape(figure.help)}</p></figure>"
    )


def thin(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """At most `limit` of the points (and one gap a stretch): first, last, and each stretch's lowest and highest.

    Where a stretch has values that are not finite, the first of them stays as NaN.
    """
    if len(points) <= limit:
        return list(points)
    stretches = max(1, (limit - 2) // 2)
    kept: list[Point] = []
    for number in range(stretches):
        part = points[number * len(points) // stretches : (number + 1) * len(points) // stretches]
        finite = [point for point in part if math.isfinite(point[1])]
        ends = [min(finite, key=_value), max(finite, key=_value)] if finite else []
        ends += [point for point in (points[0], points[-1]) if point in finite]
        gap = next(((step, math.nan) for step, value in part if not math.isfinite(value)), None)
        kept += sorted({*ends, *([gap] if gap else [])})
    return kept


def running_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Each value replaced by the mean of the last `window` finite ones up to it; a gap stays a gap."""
    means: list[Point] = []
    recent: list[float] = []
    total = 0.0
    for step, value in points:
        if not math.isfinite(value):
            means.append((step, math.nan))
            continue
        recent.append(value)
        total += value
        if len(recent) > window:
            total -= recent.pop(0)
        means.append((step, total / len(recent)))
    return means


def pieces(points: Sequence[Point]) -> Iterator[list[Point]]:
    """The stretches of finite values between the gaps."""
    piece: list[Point] = []
    for point in points:
        if math.isfinite(point[1]):
            piece.append(point)
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) within a range, about `wanted` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number in few signs: 0.69, 120, 3.1e-5, 2.5e6."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    size = abs(value)
    if size != 0 and not 1e-3 <= size < 1e5:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    return f"{value:.3g}" if size < 1000 else f"{value:.0f}"


@dataclass(frozen=True)
class _Axis:
    """The vertical axis."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, figure: Chart, points: Sequence[Point]) -> _Axis:
        values = [value for _, value in points] + ([] if figure.guide is None else [figure.guide])
        low = min(values) if figure.low is None else figure.low
        high = max(values) if figure.high is None else figure.high
        if figure.may_be_log and low > 0 and high / low >= 10**DECADES_FOR_LOG:
            return cls(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)), True)
        if high - low < 1e-12 * max(abs(high), 1):  # a flat line: in the middle
            margin = abs(high) / 2 or 1.0
            return cls(low - margin, high + margin, False)
        if low >= 0 and figure.low is None:
            return cls(0.0, high * 1.06, False)
        margin = 0.06 * (high - low)
        return cls(low - margin if figure.low is None else low, high + margin if figure.high is None else high, False)

    def share(self, value: float) -> float:
        """0 at the bottom, 1 at the top."""
        if self.log:
            return (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        if not self.log:
            return ticks(self.low, self.high)
        low, high = round(math.log10(self.low)), round(math.log10(self.high))
        return [10.0**power for power in range(low, high + 1, max(1, round((high - low) / 4)))]


@dataclass(frozen=True)
class _Frame:
    """Where steps and values lie in the picture."""

    first: float
    last: float
    axis: _Axis

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(max(self.axis.share(value), 0.0), 1.0))


def _line(series: Series, frame: _Frame) -> str:
    """The measured values, faint where there are enough to draw their running mean over them."""
    points = list(series.points)
    window = len(points) // SMOOTHED
    noisy = window >= 2
    faint = _path(points, frame, f"{series.kind} is-faint" if noisy else series.kind)
    return faint + (_path(running_mean(points, window), frame, series.kind) if noisy else "")


def _path(points: Sequence[Point], frame: _Frame, kind: str) -> str:
    positive = [(step, value if not frame.axis.log or value > 0 else math.nan) for step, value in points]
    parts = []
    for piece in pieces(thin(positive)):
        spots = [f"{frame.x(step):.1f} {frame.y(value):.1f}" for step, value in piece]
        parts.append("M" + "L".join(spots) + ("h0" if len(spots) == 1 else ""))
    return f'<path class="is-{kind}" d="{"".join(parts)}"/>' if parts else ""


def _grid(figure: Chart, frame: _Frame) -> str:
    parts = []
    for value in frame.axis.ticks():
        y = frame.y(value)
        parts.append(f'<path class="is-grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_figure(figure, value)}</text>')
    if figure.guide is not None:
        parts.append(f'<path class="is-guide" d="M{LEFT} {frame.y(figure.guide):.1f}H{WIDTH - RIGHT}"/>')
    steps = [step for step in ticks(frame.first, frame.last) if step == round(step)]
    for step in steps[:-1]:
        if frame.x(step) < frame.x(steps[-1]) - 48:  # the last label is the long one
            parts.append(f'<text x="{frame.x(step):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{step:.0f}</text>')
    if steps:
        end = min(frame.x(steps[-1]) + 22, WIDTH - 2)
        parts.append(f'<text x="{end:.1f}" y="{HEIGHT - 8}" text-anchor="end">{steps[-1]:.0f} steps</text>')
    return "".join(parts)


def _legend(figure: Chart) -> str:
    """The last value of each line, with its name where there are several."""
    several = len(figure.series) > 1
    return "".join(
        f'<span class="duo-last is-{series.kind}">{f"<i></i>{escape(series.name)} " if several else ""}'
        f"<b>{_figure(figure, series.points[-1][1])}</b></span>"
        for series in figure.series
        if series.points
    )


def _spoken(figure: Chart) -> str:
    """The chart for those who hear it: each line's first, last, lowest and highest value."""
    said = []
    for series in figure.series:
        finite = [value for _, value in series.points if math.isfinite(value)]
        if finite:
            low, high = _figure(figure, min(finite)), _figure(figure, max(finite))
            begin, now = _figure(figure, finite[0]), _figure(figure, series.points[-1][1])
            said.append(f"{series.name} from {begin} to {now}, between {low} and {high}")
    steps = max(step for series in figure.series for step, _ in series.points)
    return f"{figure.title}, {steps:.0f} steps: {'; '.join(said)}"


def _figure(figure: Chart, value: float) -> str:
    return f"{100 * value:.0f} %" if figure.percent and math.isfinite(value) else short(value)


def _value(point: Point) -> float:
    return point[1]
