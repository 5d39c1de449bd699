"""Forgetting against keeping at several strengths: a figure a concept cell, a line a model, as vector graphics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import escape

from studio.reports.colours import colour_of, number_of
from studio.reports.schema import ConceptCell, Rate, RetentionKind, StudyReport
from studio.reports.tradeoff_figure import INK
from studio.reports.words import cell_title, interval, label_of, percent

SMALL, LARGE = (340, 280), (440, 360)  # width and height: words that can be read on a phone
MANY = 6  # models: more want the large one
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 44
FINE = 0.01  # lost shares up to here are drawn as they are, beyond in decades
TICKS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)  # of what is lost


@dataclass(frozen=True)
class Step:
    """A model at one strength."""

    scale: float
    kept: float  # mean of the shares that are kept
    found: Rate  # of the concept, in one cell


def lines(report: StudyReport, cell: ConceptCell) -> dict[str, list[Step]]:
    """Key of each model to its strengths, weakest first; a model that was not drawn at several has one."""
    steps: dict[str, list[Step]] = {}
    for key, model in report.models.items():
        if cell in model.concept_rate and model.retention:
            steps[key] = [Step(1.0, mean(model.retention), model.concept_rate[cell])]
    for one in report.scaled:
        if one.model in steps and cell in one.concept_rate and one.retention:
            steps[one.model].append(Step(one.scale, mean(one.retention), one.concept_rate[cell]))
    return {key: sorted(found, key=lambda step: step.scale) for key, found in steps.items()}


def mean(rates: Mapping[RetentionKind, Rate]) -> float:
    """Of right object, neighbour, shirt and background alike, however many pictures each was counted on."""
    return sum(rate.rate for rate in rates.values()) / len(rates)


def strengths_of(report: StudyReport) -> str:
    """ "0.5, 0.75, 1, 1.25"."""
    return ", ".join(f"{scale:g}" for scale in sorted({1.0, *(one.scale for one in report.scaled)}))


def scales_svgs(report: StudyReport) -> dict[ConceptCell, str]:
    """Each cell's figure; {} where no model was drawn at several strengths."""
    if not report.scaled:
        return {}
    return {cell: svg for cell in report.models["original"].concept_rate if (svg := scales_svg(report, cell))}


def scales_svg(report: StudyReport, cell: ConceptCell) -> str:
    """SVG of one cell, on whatever ground: down is forgotten, right is kept."""
    found = lines(report, cell)
    if not found:
        return ""
    lost = max(1 - step.kept for steps in found.values() for step in steps)
    plot = Plot(lost, *(LARGE if len(report.models) > MANY else SMALL))
    title = f"{cell_title(cell)}: share with the {report.concept} against what is kept, a line a model"
    drawn = "".join(_line(report, key, steps, plot) for key, steps in found.items())
    return (
        f'<svg viewBox="0 0 {plot.width} {plot.height}" role="img" aria-label="{escape(title)}" '
        f'font-family="system-ui, sans-serif" font-size="11" class="scales"><title>{escape(title)}</title>'
        f"{plot.grid()}{drawn}"
        f'<text x="{(LEFT + plot.width - RIGHT) / 2}" y="{plot.height - 8}" text-anchor="middle" fill="{INK}">'
        "Kept: mean of all shares, drawn wider near 100%</text></svg>"
    )


class Plot:
    """From shares to places in the view box. What is lost is drawn by its logarithm, the first per cent as it is."""

    def __init__(self, lost: float, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.most = min(max(1.1 * lost, TICKS[2]), 1.0)

    def x(self, kept: float) -> float:
        share = math.log1p((1 - kept) / FINE) / math.log1p(self.most / FINE)
        return self.width - RIGHT - share * (self.width - LEFT - RIGHT)

    def y(self, found: float) -> float:
        return TOP + (1 - found) * (self.height - TOP - BOTTOM)

    def grid(self) -> str:
        parts = []
        for share in (0.0, 0.5, 1.0):
            y = self.y(share)
            parts.append(f'<path d="M{LEFT} {y:.1f}H{self.width - RIGHT}" stroke="{INK}" opacity="0.15"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="{INK}">{share:.0%}</text>')
        for lost in TICKS:
            if lost <= self.most:
                x, anchor = self.x(1 - lost), "end" if lost == 0 else "middle"
                parts.append(f'<path d="M{x:.1f} {self.y(1):.1f}V{self.y(0):.1f}" stroke="{INK}" opacity="0.08"/>')
                parts.append(f'<text x="{x:.1f}" y="{self.height - BOTTOM + 16}" text-anchor="{anchor}" ')
                parts.append(f'fill="{INK}">{1 - lost:.0%}</text>')
        return "".join(parts)


def _line(report: StudyReport, key: str, steps: list[Step], plot: Plot) -> str:
    colour, label = colour_of(report, key), label_of(key, report.models[key])
    places = [(plot.x(step.kept), plot.y(step.found.rate)) for step in steps]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    joined = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5" opacity="0.7"/>'
    marks = []
    for step, (x, y) in zip(steps, places, strict=True):
        strength = f" times {step.scale:g}" if len(steps) > 1 else ""
        told = f"{label}{strength}: {percent(step.found.rate)} ({interval(step.found)}, n = {step.found.n})"
        told += f", keeps {percent(step.kept)}"
        marks.append(f"<g><title>{escape(told)}</title>{_shape(key, step.scale, x, y, colour)}</g>")
    return f'<g class="m{number_of(report, key)}">{joined if len(steps) > 1 else ""}{"".join(marks)}</g>'


def _shape(key: str, scale: float, x: float, y: float, colour: str) -> str:
    """A square for original and oracle; else a dot, small where it is not the model's own strength."""
    if key in ("original", "oracle"):
        place = f'x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"'
        return f'<rect {place} fill="none" stroke="{colour}" stroke-width="2"/>'
    radius = 5 if scale == 1 else 2.5
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>'
