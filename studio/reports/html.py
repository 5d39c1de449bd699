"""report.html: one file that opens offline, with pictures embedded and figures as inline SVG."""

from __future__ import annotations

import base64
import json
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from studio.reports.colours import COLOURS, number_of
from studio.reports.scales_figure import MANY, scales_svgs, strengths_of
from studio.reports.schema import Rate, StudyReport
from studio.reports.tradeoff import matched_sentences
from studio.reports.tradeoff_figure import tradeoff_svg
from studio.reports.words import (
    against_control,
    breaks,
    cell_help,
    cell_title,
    cells_in,
    count,
    estimate_text,
    headline,
    interval,
    label_of,
    measured_text,
    p_value,
    percent,
    retention_title,
    training_time,
)

NAMES, BARS_END, ROW_HEIGHT = 88.0, 272.0, 28.0  # least room for names, and end of the bars, in a figure 340 wide
LETTER, LONGEST = 7.2, 18  # width of a name's letter, about, and letters of a name


@dataclass(frozen=True)
class Bar:
    """One row of a figure; lengths in the units of its view box."""

    label: str
    style: int  # colour number
    y: float
    width: float
    low: float
    high: float
    value: str
    title: str


@dataclass(frozen=True)
class Panel:
    """One small figure: a measure, a bar a model."""

    title: str
    help: str
    bars: list[Bar]
    height: float
    left: float  # where the bars begin
    length: float  # of a bar of 100 %


def panel(title: str, help: str, rates: dict[str, Rate], labels: dict[str, str], styles: dict[str, int]) -> Panel:
    """A figure of one measure; a model that lacks it gets no bar."""
    names = {key: textwrap.shorten(labels[key], LONGEST, placeholder="…") for key in rates}
    left = max(NAMES, 10 + LETTER * max(map(len, names.values()), default=0))
    length = BARS_END - left
    bars = []
    for row, (key, rate) in enumerate(rates.items()):
        bars.append(
            Bar(
                label=names[key],
                style=styles[key],
                y=row * ROW_HEIGHT,
                width=length * rate.rate,
                low=left + length * rate.low,
                high=left + length * rate.high,
                value=percent(rate.rate),
                title=f"{labels[key]}: {percent(rate.rate)}, 95 % interval {interval(rate)}, "
                f"{count(rate.n, rate.prompts)}",
            )
        )
    return Panel(title, help, bars, len(bars) * ROW_HEIGHT + 18, left, length)


def render_html(report: StudyReport, folder: Path) -> str:
    """The page for a report whose gallery pictures lie in `folder`."""
    labels = {key: label_of(key, model) for key, model in report.models.items()}
    styles = {key: number_of(report, key) for key in report.models}

    def panels(kind: str, titled: Callable[[str], str], helped: Callable[[str], str]) -> list[Panel]:
        figures = []
        for name in cells_in(report, kind):
            measured = {key: getattr(model, kind) for key, model in report.models.items()}
            rates = {key: values[name] for key, values in measured.items() if name in values}
            figures.append(panel(titled(name), helped(name), rates, labels, styles))
        return figures

    environment = Environment(
        loader=PackageLoader("studio.reports", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, interval=interval, training_time=training_time, p_value=p_value, json=_json
    )
    environment.filters.update(count=count, measured_text=measured_text)
    return environment.get_template("report.html").render(
        report=report,
        labels=labels,
        styles=styles,
        places={key: index for index, key in enumerate(report.models)},
        colours=COLOURS,
        headline=headline(report),
        date=_date(report.created),
        concept_panels=panels("concept_rate", cell_title, cell_help),
        retention_panels=panels("retention", retention_title, lambda name: ""),
        breaks=breaks(report),
        cells_in=partial(cells_in, report),
        first_rate=lambda kind, name: next(
            getattr(model, kind)[name] for model in report.models.values() if name in getattr(model, kind)
        ),
        cell_title=cell_title,
        cell_help=cell_help,
        retention_title=retention_title,
        estimate_text=estimate_text,
        against_control=against_control,
        tradeoff=Markup(tradeoff_svg(report)),
        matched=matched_sentences(report),
        scales=[(cell_title(cell), Markup(svg)) for cell, svg in scales_svgs(report).items()],
        scales_wide=len(report.models) > MANY,
        strengths=strengths_of(report),
        scaled_n=max((rate.n for one in report.scaled for rate in one.concept_rate.values()), default=0),
        measures={name: one for model in reversed(report.models.values()) for name, one in model.measures.items()},
        cells=list(dict.fromkeys(row.cell for row in report.gallery)),
        embed=lambda picture: _data_url(folder / picture),
    )


def write_html(report: StudyReport, folder: Path) -> Path:
    """Write report.html beside the report's pictures."""
    path = folder / "report.html"
    path.write_text(render_html(report, folder), encoding="utf-8")
    return path


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _date(created: str) -> str:
    return datetime.fromisoformat(created).strftime("%-d %B %Y, %H:%M UTC") if created else ""
