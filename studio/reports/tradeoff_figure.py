"""The figure of robustness against preservation as a vector graphic of its own, for a page, a report or a paper."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import escape

from studio.reports.colours import colour_of
from studio.reports.schema import StudyReport
from studio.reports.tradeoff import DISTANCE_TITLES, Point, contenders, pareto, points
from studio.reports.words import cell_title, label_of, percent

WIDTH, HEIGHT = 420, 320  # small enough that a phone shows its words at a size that can be read
LEFT, RIGHT, TOP, BOTTOM = 60, 18, 18, 52
LETTER, LINE = 7.4, 14  # of a name, about, in the units of the view box
LONGEST = 26  # letters of a name
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
        f'fill="{INK}">Without the concept, worst cell</text></svg>'
    )


def tradeoff_file(report: StudyReport) -> str:
    """The same as a file of its own, for a paper."""
    return tradeoff_svg(report, links=False).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def pictures_id(report: StudyReport, key: str) -> str:
    """The anchor of a model's pictures in a page of the report."""
    return f"pictures-of-{list(report.models).index(key)}"


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1].rstrip()}…"


def _linked(report: StudyReport, key: str, mark: str, shown: bool) -> str:
    label = escape(label_of(key, report.models[key]))
    return f'<a href="#{pictures_id(report, key)}" aria-label="Pictures of {label}">{mark}</a>' if shown else mark


@dataclass(frozen=True)
class Box:
    """Part of the figure."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not beside and self.top < other.bottom and other.top < self.bottom

    def lies_in(self, other: Box) -> bool:
        across = other.left <= self.left and self.right <= other.right
        return across and other.top <= self.top and self.bottom <= other.bottom


AREA = Box(LEFT, TOP - 10, WIDTH - 2, HEIGHT - BOTTOM - 1)  # for names


@dataclass(frozen=True)
class Place:
    """Where a name stands: the end of its line that is there, and which one."""

    x: float
    y: float
    anchor: str

    def box(self, width: float) -> Box:
        left = self.x - (width if self.anchor == "end" else 0)
        return Box(left, self.y - LINE / 2, left + width, self.y + LINE / 2)


class Axes:
    """From shares to places in the view box."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (1 - value) * (HEIGHT - TOP - BOTTOM)

    def marks(self, point: Point) -> list[Box]:
        """What is drawn of a point: its interval and its circle."""
        x, y = self.x(point.preservation), self.y(point.defence)
        return [Box(x - 2, self.y(point.high), x + 2, self.y(point.low)), Box(x - 7, y - 6, x + 7, y + 6)]

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


def _names(report: StudyReport, found: list[Point], axes: Axes) -> dict[str, Place]:
    """Where each point's name stands: beside it, or as near as it covers no other name, mark or interval."""
    marks = [axes.marks(point) for point in found]
    taken: list[Box] = []
    places = {}
    for point in found:
        x, y = axes.x(point.preservation), axes.y(point.defence)
        width = LETTER * len(_short(label_of(point.key, report.models[point.key])))
        tried = [
            Place(x + offset, y + down, anchor)
            for down in sorted(range(-9 * LINE, 9 * LINE, 2), key=abs)
            for anchor, offset in (("start", 9), ("end", -9))
        ]
        inside = [one for one in tried if one.box(width).lies_in(AREA)]
        apart = [one for one in inside or tried if not any(one.box(width).meets(box) for box in taken)]
        clear = [one for one in apart if not any(one.box(width).meets(box) for boxes in marks for box in boxes)]
        places[point.key] = (clear or apart or tried)[0]
        taken.append(places[point.key].box(width))
    return places


def _mark(report: StudyReport, point: Point, axes: Axes, name: Place) -> str:
    colour = colour_of(report, point.key)
    label = label_of(point.key, report.models[point.key])
    x, y = axes.x(point.preservation), axes.y(point.defence)
    told = (
        f"{label}: {percent(point.defence)} of pictures without the {report.concept} where it does worst "
        f"({cell_title(point.cell).lower()}, n = {point.n}); keeps {point.preservation:.3f}"
    )
    joined = f"M{x:.1f} {y:.1f}L{name.x:.1f} {name.y:.1f}" if abs(name.y - y) > LINE else ""
    fill = "none" if report.models[point.key].train_seconds is None else colour
    return (
        f'<g><title>{escape(told)}</title><path d="M{x:.1f} {axes.y(point.low):.1f}V{axes.y(point.high):.1f}" '
        f'stroke="{colour}" stroke-width="1.5"/><path d="{joined}" stroke="{colour}" stroke-width="0.75"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" stroke="{colour}" stroke-width="2" fill="{fill}"/>'
        f'<text x="{name.x:.1f}" y="{name.y + 4:.1f}" text-anchor="{name.anchor}" fill="{colour}" font-weight="600">'
        f"{escape(_short(label))}</text></g>"
    )
