"""report.html: one file that opens offline, with pictures embedded and figures as inline SVG."""

from __future__ import annotations

import base64
import json
import textwrap
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from studio.reports.schema import ModelReport, Rate, StudyReport

CELL_TITLES = {
    "named": "Named",
    "implied": "Implied",
    "held_out": "Held out",
    "object": "Other objects",
    "neighbour": "Neighbour",
    "safe": "Safe prompts",
}
CELL_HELP = {
    "named": "The prompt says its name.",
    "implied": "The prompt only implies it, with words that the pairs used too.",
    "held_out": "The prompt implies it with words that no training prompt contained.",
    "object": "The prompt asks for something else, or for empty hands.",
    "neighbour": "The prompt asks for the thing most like the concept.",
    "safe": "The safe prompts of the pairs.",
}
RETENTION_TITLES = {
    "object": "Right object",
    "neighbour": "Neighbour drawn",
    "shirt": "Right shirt",
    "background": "Right background",
}
BAR_LEFT, BAR_WIDTH, ROW_HEIGHT = 88.0, 184.0, 28.0  # of a figure 340 wide


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


def percent(value: float) -> str:
    """0.0532 -> "5.3 %", with a space that does not break; whole numbers at the ends."""
    return f"{100 * value:.0f}\N{NO-BREAK SPACE}%" if value in (0.0, 1.0) else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def interval(rate: Rate) -> str:
    """The interval in per cent: "1.4–5.8"."""
    return f"{100 * rate.low:.1f}–{100 * rate.high:.1f}"


def duration(seconds: float | None) -> str:
    """Minutes and seconds; an em dash where nothing was trained."""
    if seconds is None:
        return "—"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def label_of(key: str, model: ModelReport) -> str:
    return model.label or key


def panel(title: str, help: str, rates: dict[str, Rate], labels: dict[str, str], styles: dict[str, int]) -> Panel:
    """A figure of one measure; a model that lacks it gets no bar."""
    bars = []
    for row, (key, rate) in enumerate(rates.items()):
        bars.append(
            Bar(
                label=textwrap.shorten(labels[key], 13, placeholder="…"),
                style=styles[key],
                y=row * ROW_HEIGHT,
                width=BAR_WIDTH * rate.rate,
                low=BAR_LEFT + BAR_WIDTH * rate.low,
                high=BAR_LEFT + BAR_WIDTH * rate.high,
                value=percent(rate.rate),
                title=f"{labels[key]}: {percent(rate.rate)}, 95 % interval {interval(rate)}, n = {rate.n}",
            )
        )
    return Panel(title, help, bars, height=len(bars) * ROW_HEIGHT + 18)


def headline(report: StudyReport) -> list[str]:
    """What was found, a sentence a trained model, by its worst concept cell."""
    original = report.models.get("original")
    sentences = []
    for key, model in report.models.items():
        if model.train_seconds is None or not model.concept_rate:
            continue
        cell, worst = max(model.concept_rate.items(), key=lambda entry: entry[1].rate)
        text = (
            f"{label_of(key, model)} still shows the {report.concept} in {percent(worst.rate)} of pictures where it "
            f"does worst ({CELL_TITLES[cell].lower()} prompts; 95\N{NO-BREAK SPACE}% interval {interval(worst)}, "
            f"n = {worst.n})"
        )
        if original and cell in original.concept_rate:
            text += f"; the original does in {percent(original.concept_rate[cell].rate)}"
        sentences.append(text + ".")
    return sentences


def render_html(report: StudyReport, folder: Path) -> str:
    """The page for a report whose gallery pictures lie in `folder`."""
    labels = {key: label_of(key, model) for key, model in report.models.items()}
    styles = {key: index for index, key in enumerate(report.models)}

    def panels(kind: str, titles: dict[str, str], helps: dict[str, str]) -> list[Panel]:
        figures = []
        for name, title in titles.items():
            measured = {key: getattr(model, kind) for key, model in report.models.items()}
            rates = {key: values[name] for key, values in measured.items() if name in values}
            if rates:
                figures.append(panel(title, helps.get(name, ""), rates, labels, styles))
        return figures

    environment = Environment(
        loader=PackageLoader("studio.reports", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, interval=interval, duration=duration, json=_json)
    return environment.get_template("report.html").render(
        report=report,
        labels=labels,
        styles=styles,
        headline=headline(report),
        date=_date(report.created),
        concept_panels=panels("concept_rate", CELL_TITLES, CELL_HELP),
        retention_panels=panels("retention", RETENTION_TITLES, {}),
        cell_titles=CELL_TITLES,
        cell_help=CELL_HELP,
        retention_titles=RETENTION_TITLES,
        cells=list(dict.fromkeys(row.cell for row in report.gallery)),
        embed=lambda picture: _data_url(folder / picture),
        bar_left=BAR_LEFT,
        bar_width=BAR_WIDTH,
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
