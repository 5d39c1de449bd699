"""The figure of robustness against preservation as a vector graphic of its own, for a page, a report or a paper."""

from __future__ import annotations

import math

from markupsafe import escape

from studio.reports.schema import StudyReport
from studio.reports.tradeoff import DISTANCE_TITLES, Point, contenders, pareto, points
from studio.reports.words import cell_title, label_of, percent

WIDTH, HEIGHT = 560, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 18, 52
COLOURS = (  # of the report's models, in its order
    "#767b86", "#1769aa", "#c2570c", "#0b7a5c", "#8a3ea8", "#a3781a", "#b8336a", "#4b7f1f", "#00808f", "#5a5fc7"
)  # fmt: skip
LETTER, LINE = 7.2, 14  # of a name, about, in the units of the view box
INK = "currentColor"  # the ground's own: black in a file


def tradeoff_svg(report: StudyReport, links: bool = True) -> str:
    """SVG for a page, on whatever ground; "" where fewer than two models have both figures.

    With `links` a point leads to its pictures, where the page has them: see `pictures_id`.
    """
    found = points(report)
    if len(found) < 2:
        return ""
    low, high = span([point.preservation for point in found])
    axes = Axes(low, high)
    metric = next(iter(report.models.values())).distance.metric
    front = pareto(contenders(found))
    line = " ".join(f"{axes.x(p.preservation):.1f},{axes.y(p.defence):.1f}" for p in front)
    shown = links and bool(report.gallery)
    names = _names(report, found, axes)
    marks = "".join(_linked(report, one.key, _mark(report, one, axes, names[one.key]), shown) for one in found)
    title = f"Share without the {report.concept} against what is kept, a point a model"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="{"group" if shown else "img"}" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="12" class="tradeoff">'
        f"<title>{escape(title)}</title>{axes.grid()}"
        f'<polyline points="{line}" fill="none" stroke="{INK}" stroke-dasharray="4 4" class="front"/>{marks}'
        f'<text x="{LEFT + (WIDTH - LEFT - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle" fill="{INK}">'
        f"{escape(DISTANCE_TITLES.get(metric, f'1 − {metric}'))}: more is kept to the right</text>"
        f'<text transform="translate(16 {TOP + (HEIGHT - TOP - BOTTOM) / 2}) rotate(-90)" text-anchor="middle" '
        f'fill="{INK}">Pictures without the {escape(report.concept)}, worst cell</text></svg>'
    )


def tradeoff_file(report: StudyReport) -> str:
    """The same as a file of its own, for a paper."""
    return tradeoff_svg(report, links=False).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def pictures_id(report: StudyReport, key: str) -> str:
    """The anchor of a model's pictures in a page of the report."""
    return f"pictures-of-{list(report.models).index(key)}"


def _linked(report: StudyReport, key: str, mark: str, shown: bool) -> str:
    label = escape(label_of(key, report.models[key]))
    return f'<a href="#{pictures_id(report, key)}" aria-label="Pictures of {label}">{mark}</a>' if shown else mark


class Axes:
    """From shares to places in the view box."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (1 - value) * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> str:
        lines = []
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            y = self.y(share)
            lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{INK}" opacity="0.15"/>')
            lines.append(
                f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{INK}">{100 * share:.0f} %</text>'
            )
        for step in range(5):
            value = self.low + (self.high - self.low) * step / 4
            x = self.x(value)
            lines.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="{INK}">')
            lines.append(f"{value:.3g}</text>")
        return "".join(lines)


def span(values: list[float]) -> tuple[float, float]:
    """Round ends around the values, in 0 … 1: a twentieth more on each side, to hundredths."""
    low, high = min(values), max(values)
    margin = max((high - low) / 20, 0.01)
    return max(0.0, math.floor((low - margin) * 100) / 100), min(1.0, math.ceil((high + margin) * 100) / 100)


def _names(report: StudyReport, found: list[Point], axes: Axes) -> dict[str, tuple[float, float, str]]:
    """Where each point's name stands and which end of it is there; one that would cover another moves away from it."""
    taken: list[tuple[float, float, float]] = []  # left, right, y
    places = {}
    for point in found:
        x, y = axes.x(point.preservation), axes.y(point.defence)
        width = LETTER * len(label_of(point.key, report.models[point.key]))
        anchor, offset = ("end", -9) if x > WIDTH * 0.7 else ("start", 9)
        left = x + offset - (width if anchor == "end" else 0)
        below = y < TOP + HEIGHT / 4
        y, step = (y + 15, LINE) if below else (y - 7, -LINE)
        while any(left < r and left + width > one and abs(y - at) < LINE for one, r, at in taken):
            y += step
        taken.append((left, left + width, y))
        places[point.key] = (x + offset, y, anchor)
    return places


def _mark(report: StudyReport, point: Point, axes: Axes, name: tuple[float, float, str]) -> str:
    colour = COLOURS[list(report.models).index(point.key) % len(COLOURS)]
    label = label_of(point.key, report.models[point.key])
    x, y = axes.x(point.preservation), axes.y(point.defence)
    told = (
        f"{label}: {percent(point.defence)} of pictures without the {report.concept} where it does worst "
        f"({cell_title(point.cell).lower()}, n = {point.n}); keeps {point.preservation:.3f}"
    )
    at, height, anchor = name
    fill = "none" if report.models[point.key].train_seconds is None else colour
    return (
        f'<g><title>{escape(told)}</title><path d="M{x:.1f} {axes.y(point.low):.1f}V{axes.y(point.high):.1f}" '
        f'stroke="{colour}" stroke-width="1.5"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" stroke="{colour}" stroke-width="2" fill="{fill}"/>'
        f'<text x="{at:.1f}" y="{height:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="600">'
        f"{escape(label)}</text></g>"
    )
