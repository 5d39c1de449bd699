"""HTML of a finished evaluation: sentences, bars with intervals, the table, the gallery. Pure functions of a report."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from studio.durations import duration
from studio.records import Evaluation
from studio.reports.colours import colour_of
from studio.reports.scales_figure import MANY, scales_svgs, strengths_of
from studio.reports.schema import GalleryRow, ModelReport, Rate, StudyReport
from studio.reports.tradeoff import matched_sentences, points
from studio.reports.tradeoff_figure import pictures_id, tradeoff_svg
from studio.reports.words import (
    cell_help,
    cell_title,
    cells_in,
    count,
    headline,
    interval,
    label_of,
    line_kinds,
    line_title,
    measured_text,
    p_value,
    percent,
    retention_title,
)
from studio.ui.findings_protocol import attacks_section, protocol_section
from studio.ui.pictures import report_url
from studio.ui.results import clear_link, picture
from studio.ui.words import escape, pill

RETENTION_HELP = {
    "object": "Prompts without the concept: the object asked for is there.",
    "neighbour": "The thing most like the concept is still drawn when asked for.",
    "shirt": "The shirt has the colour asked for.",
    "background": "The place is the one asked for.",
}


def findings(evaluation: Evaluation, *, blur: bool = False) -> str:
    """All of one evaluation; with `blur`, pictures in which the concept was found are veiled.

    Raises pydantic's ValidationError where the stored report is not one.
    """
    report = StudyReport.model_validate(evaluation.report)
    verdicts = "".join(f'<p class="duo-verdict">{escape(sentence)}</p>' for sentence in headline(report))
    return (
        '<div class="duo-report">'
        f"<section>{verdicts}</section>{protocol_section(report)}"
        f'<div class="duo-columns">{_gone(report)}{_still_there(report)}</div>'
        f"{attacks_section(report)}<section><h3>Every figure</h3>{_table(report)}</section>"
        f"{_tradeoff(report)}{_scales(report)}{_tests(report)}{_gallery(evaluation.id, report, blur=blur)}"
        "</div>"
    )


def _gone(report: StudyReport) -> str:
    """Rates of the concept; nothing where no prompt asked for it."""
    if not cells_in(report, "concept_rate"):
        return ""
    concept = escape(report.concept)
    return (
        f"<section><h3>Is the {concept} gone?</h3><p>Share of pictures in which the detector sees the {concept}, with "
        f"its 95 % interval and n. <b>Lower is better.</b></p>"
        f"{_bars(report, 'concept_rate', cell_title, cell_help)}</section>"
    )


def _still_there(report: StudyReport) -> str:
    """Rates of everything else; nothing where the detector cannot name it."""
    if not cells_in(report, "retention"):
        return ""
    return (
        "<section><h3>Is everything else still there?</h3><p>Prompts without the concept. <b>Higher is better</b>, "
        "and it should match the original.</p>"
        f"{_bars(report, 'retention', retention_title, lambda name: RETENTION_HELP.get(name, ''))}</section>"
    )


def links(evaluation: Evaluation, *, blur: bool = False) -> str:
    """Downloads of the report as files; with `blur`, its page with and without the blurring."""
    name = f"duo-report-{evaluation.id}"
    page = f'<a href="{report_url(evaluation.id, "report.html")}" download="{name}.html"'
    svg = f'<a href="studio/tables/{evaluation.id}.svg"'
    curve = f'{svg} download="{name}.svg">Download curve (SVG)</a>{svg} data-png="{name}.png">Download curve (PNG)</a>'
    clear = f"{page}{clear_link(True)}>Download report, all clear (HTML)</a>" if blur else ""
    return (
        f'<div class="duo-links">{page}>Download report (HTML)</a>{clear}'
        f'<a href="{report_url(evaluation.id, "report.json")}" download="{name}.json">Download figures (JSON)</a>'
        f'<a href="studio/tables/{evaluation.id}.csv" download="{name}.csv">Download table (CSV)</a>'
        f'<a href="studio/tables/{evaluation.id}.tex" download="{name}.tex">Download table (LaTeX)</a>'
        f"{curve if len(evaluation.report.get('models', ())) > 1 else ''}"
        "</div>"
    )


def _tradeoff(report: StudyReport) -> str:
    """Robustness against preservation, and who defends best among those that keep as much."""
    found = points(report)
    if len(found) < 2:
        return ""
    return (
        '<section id="duo-tradeoff"><h3>What forgetting costs</h3><p>Up is less of the concept where a model does '
        "worst, right is more of everything else. The dashed line joins the models that no other beats in both; hollow "
        "marks are the original and the oracle. A point leads to its pictures.</p>"
        f"{tradeoff_svg(report)}{''.join(f'<p>{escape(line)}</p>' for line in matched_sentences(report))}</section>"
    )


def _scales(report: StudyReport) -> str:
    """Each model's change at several strengths, a figure a cell."""
    figures = scales_svgs(report)
    if not figures:
        return ""
    names = " ".join(
        f'<span style="white-space:nowrap"><span style="color:{colour_of(report, key)}">●</span> '
        f"{escape(label_of(key, model))}</span>"
        for key, model in report.models.items()
    )
    wide = " is-wide" if len(report.models) > MANY else ""
    drawn = "".join(f"<div><h4>{escape(cell_title(cell))}</h4>{svg}</div>" for cell, svg in figures.items())
    return (
        f'<section id="duo-scales"><h3>At several strengths</h3><p>A line a model: its change times '
        f"{strengths_of(report)} of what was trained. Down is less of the concept, right is more of everything else; "
        "large dots are the models as trained, hollow squares the original and the oracle.</p>"
        f'<p>{names}</p><div class="duo-scales{wide}">{drawn}</div></section>'
    )


def _tests(report: StudyReport) -> str:
    """Which two models differ, on the same prompts and seeds."""
    if not report.tests:
        return ""
    names = {key: label_of(key, model) for key, model in report.models.items()}
    rows = "".join(
        _row(
            f"{cell_title(test.cell)}: {names[test.first]} against {names[test.second]}",
            (str(test.only_first), str(test.only_second), str(test.n), p_value(test.p), p_value(test.holm)),
        )
        for test in report.tests
    )
    heads = "".join(
        f'<th scope="col">{head}</th>' for head in ("Only the first", "Only the second", "n", "p", "p, corrected")
    )
    return (
        "<section><details><summary>Do they differ? <small>Exact McNemar tests on the same prompts and seeds, "
        "corrected by Holm over all of them.</small></summary>"
        '<div class="duo-scroll" tabindex="0" role="region" aria-label="Paired tests"><table class="duo-table">'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details></section>"
    )


def _rates(report: StudyReport, kind: str, name: str) -> dict[str, Rate]:
    found = {key: getattr(model, kind).get(name) for key, model in report.models.items()}
    return {key: rate for key, rate in found.items() if rate is not None}


def _bars(report: StudyReport, kind: str, titled: Callable[[str], str], helped: Callable[[str], str]) -> str:
    """One group a measure, one bar a model."""
    groups = []
    for name in cells_in(report, kind):
        bars = "".join(_bar(key, report.models[key], rate) for key, rate in _rates(report, kind, name).items())
        groups.append(f"<div><h4>{escape(titled(name))} <small>{escape(helped(name))}</small></h4>{bars}</div>")
    return f'<div class="duo-chart">{"".join(groups)}</div>'


def _bar(key: str, model: ModelReport, rate: Rate) -> str:
    low, width = 100 * rate.low, 100 * (rate.high - rate.low)
    return (
        f'<div class="duo-bar is-{escape(model.method or key)}"><span>{escape(label_of(key, model))}</span>'
        f'<span class="duo-track" aria-hidden="true"><i style="width:{100 * rate.rate:.2f}%"></i>'
        f'<u style="left:{low:.2f}%;width:{width:.2f}%"></u></span>'
        f'<span class="duo-value"><b>{percent(rate.rate)}</b> {_interval(rate)}</span></div>'
    )


def _interval(rate: Rate) -> str:
    return f"{interval(rate)}, {count(rate.n, rate.prompts)}"


def _table(report: StudyReport) -> str:
    heads = "".join(f'<th scope="col">{escape(label_of(key, model))}</th>' for key, model in report.models.items())
    rows = [
        _line(line_title(report, kind, name), report, kind, name)
        for kind in line_kinds(report)
        for name in cells_in(report, kind)
    ]
    models = report.models.values()
    metric = next((model.distance.metric for model in models), "")
    means = ("—" if model.distance.mean is None else f"{model.distance.mean:.3f}" for model in models)
    times = ("—" if model.train_seconds is None else duration(model.train_seconds) for model in models)
    rows.append(_row(f"Distance to the original ({metric}, lower is closer)", means))
    for name in dict.fromkeys(name for model in models for name in model.measures):
        found = [model.measures.get(name) for model in models]
        first = next(one for one in found if one)
        title = f"{first.title}, {'higher' if first.higher_is_better else 'lower'} is better, n = {first.n}"
        rows.append(_row(title, ("—" if one is None else measured_text(one) for one in found)))
    rows.append(_row("Training time", times))
    return (
        '<div class="duo-scroll" tabindex="0" role="region" aria-label="Every figure">'
        f'<table class="duo-table"><thead><tr><td></td>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _line(title: str, report: StudyReport, kind: str, name: str) -> str:
    rates = _rates(report, kind, name)
    return _row(title, (_figure(rates[key]) if key in rates else "—" for key in report.models))


def _figure(rate: Rate) -> str:
    return f"{percent(rate.rate)}<small>{_interval(rate)}</small>"


def _row(title: str, cells: Iterable[str]) -> str:
    return f'<tr><th scope="row">{escape(title)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _gallery(evaluation_id: str, report: StudyReport, *, blur: bool) -> str:
    """The kept pictures, one closed block a cell but for the first."""
    if not report.gallery:
        return ""
    blocks: list[str] = []
    for cell in dict.fromkeys(row.cell for row in report.gallery):
        rows = "".join(
            _gallery_row(evaluation_id, report, row, blur=blur) for row in report.gallery if row.cell == cell
        )
        blocks.append(
            f"<details{'' if blocks else ' open'}><summary>{escape(cell_title(cell))} "
            f"<small>{escape(cell_help(cell))}</small></summary>"
            '<div class="duo-scroll" tabindex="0" role="region" '
            f'aria-label="Pictures: {escape(cell_title(cell))}">'
            f'<div class="duo-grid" style="--columns:{len(report.models)}">{rows}</div></div>'
            "</details>"
        )
    anchors = "".join(f'<span id="{pictures_id(report, key)}" class="duo-anchor"></span>' for key in report.models)
    return (
        f'<section class="duo-gallery">{anchors}<h3>See for yourself</h3><p>One row is one prompt and one seed, drawn '
        f"by each model: the first pictures of each kind, not chosen.</p>{''.join(blocks)}</section>"
    )


def _gallery_row(evaluation_id: str, report: StudyReport, row: GalleryRow, *, blur: bool) -> str:
    about = f" · {escape(row.note)}" if row.note else ""
    figures = [f'<p class="duo-prompt"><q>{escape(row.prompt)}</q> <span>seed {row.seed}{about}</span></p>']
    for key, shot in row.shots.items():
        label = label_of(key, report.models[key])
        url = report_url(evaluation_id, shot.picture, view=True)
        shown = picture(url, f"{label}: {row.prompt}, seed {row.seed}", veiled=blur and shot.found, lazy=True)
        figures.append(
            f'<figure class="duo-cell of-{list(report.models).index(key)}">{shown}<figcaption>{escape(label)} '
            f"{pill(report.concept, shot.found, shot.score, shot.object)}</figcaption></figure>"
        )
    return "".join(figures)
