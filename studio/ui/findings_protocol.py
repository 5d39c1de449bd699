"""HTML of a report's protocol and of the attacks in it. Pure functions of a report."""

from __future__ import annotations

from collections.abc import Iterable

from studio.reports.schema import AttackReport, Figure, Rate, StudyReport
from studio.reports.words import against_control, count, estimate_text, interval, label_of, percent
from studio.ui.words import escape

ATTACKS_HELP = (
    "Of all prompts, those too where the plain prompt works (pre-ASR). ASR is on the seed that the attack searched on, "
    "with its Wilson interval; the other rates are on fresh seeds, with a bootstrap by prompt."
)
MATRIX_HELP = (
    "Found on the model of the line, drawn by the model of the column, on fresh seeds; tinted where both are one."
)


def protocol_section(report: StudyReport) -> str:
    """A protocol's own table, what is missing of it, how it differs from the publication, and its files."""
    protocol = report.protocol
    if protocol is None:
        return ""
    names = [label_of(key, model) for key, model in report.models.items()]
    rows = "".join(_figure(figure, list(report.models)) for figure in protocol.figures)
    lists = _listed("Missing", protocol.missing, opened=True) + _listed("Not as published", protocol.differs)
    files = [f"{one.path}: {one.prompts} prompts, {one.kind}, SHA-256 {one.sha256}" for one in protocol.sources]
    return (
        f'<section id="duo-protocol"><h3>{escape(protocol.title)}</h3><p>{escape(protocol.paper)}</p>'
        f"{_table('Figures of the protocol', names, rows)}{lists}{_listed('Files of prompts', files)}</section>"
    )


def attacks_section(report: StudyReport) -> str:
    """What attacks reach on the models they were run on, and how far their finds carry over."""
    if not report.attacks:
        return ""
    heads = ("pre-ASR", "ASR", "Plain, fresh seeds", "Attack, fresh seeds", "Control, fresh seeds", "Queries a prompt")
    names = [label_of(key, model) for key, model in report.models.items()]
    rows = "".join(_attack(one) for one in report.attacks)
    lines = "".join(_line(one, list(report.models)) for one in report.attacks)
    return (
        f'<section id="duo-report-attacks"><h3>What attacks reach</h3><p>{ATTACKS_HELP}</p>'
        f"{_table('Attack success rates', heads, rows)}"
        f"<h4>How far what was found carries over</h4><p>{MATRIX_HELP}</p>"
        f"{_table('Transfer matrix', names, lines)}</section>"
    )


def _figure(figure: Figure, models: Iterable[str]) -> str:
    better = "higher is better" if figure.higher_is_better else "lower is better"
    head = f'<th scope="row">{escape(figure.title)}<small>{escape(figure.help)} {better.capitalize()}.</small></th>'
    if figure.missing:
        return f'<tr>{head}<td colspan="{len(list(models))}">{escape(figure.missing)}</td></tr>'
    cells = []
    for key in models:
        value, about = estimate_text(figure.values[key], figure.is_share) if key in figure.values else ("—", "")
        cells.append(f"<td>{escape(value)}{f'<small>{escape(about)}</small>' if about else ''}</td>")
    return f"<tr>{head}{''.join(cells)}</tr>"


def _attack(one: AttackReport) -> str:
    refused = f", {one.refused} refused" if one.refused else ""
    control = f"<small>{escape(one.control_name)}</small><small>{escape(against_control(one))}</small>"
    cells = [
        _rate(one.pre), _rate(one.asr), _rate(one.plain), _rate(one.fresh.get(one.victim)),
        _rate(one.control) + (control if one.control_name else ""), f"{one.queries:.1f}",
    ]  # fmt: skip
    head = f"{escape(one.title)} on {escape(one.victim_name)}<small>{one.attacked} attacked{refused}</small>"
    return f'<tr><th scope="row">{head}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _line(one: AttackReport, models: Iterable[str]) -> str:
    cells = "".join(
        f"<td{' class=is-own' if key == one.victim else ''}>{_rate(one.fresh.get(key))}</td>" for key in models
    )
    return f'<tr><th scope="row">{escape(one.title)}, found on {escape(one.victim_name)}</th>{cells}</tr>'


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return "—"
    return f"{percent(rate.rate)}<small>{interval(rate)}, {count(rate.n, rate.prompts)}</small>"


def _table(name: str, heads: Iterable[str], rows: str) -> str:
    cells = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    return (
        f'<div class="duo-scroll" tabindex="0" role="region" aria-label="{name}"><table class="duo-table">'
        f"<thead><tr><td></td>{cells}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _listed(title: str, lines: Iterable[str], *, opened: bool = False) -> str:
    found = "".join(f"<li>{escape(line)}</li>" for line in lines)
    shown = " open" if opened else ""
    return f"<details{shown}><summary>{title}</summary><ul>{found}</ul></details>" if found else ""
