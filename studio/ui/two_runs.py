"""Two evaluations side by side: what was asked differently, and each rate of both with the difference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from studio.records import Evaluation
from studio.reports.schema import Rate, StudyReport
from studio.reports.table import rates_of
from studio.reports.words import count, interval, label_of, line_title, percent
from studio.ui.words import escape, short_hash

LIMITS = (
    "The difference is the second run's rate minus the first one's, in percentage points. Where the 95 % intervals do "
    "not overlap, chance alone hardly explains it. Where they do overlap, nothing follows: that is no test of the "
    "difference."
)
Place = tuple[str, str, str]  # measure, cell, model


def two_runs(first: Evaluation, second: Evaluation) -> str:
    """Raises pydantic's ValidationError where a stored report is not one."""
    one, other = (StudyReport.model_validate(evaluation.report) for evaluation in (first, second))
    differences = list(asked_differently(one, other))
    listed = "".join(f"<li><b>{escape(name)}</b> {escape(a)} → {escape(b)}</li>" for name, a, b in differences)
    same = "" if differences else "<p>Both had the same seed, n, prompts, sampling, detector and adapters.</p>"
    return (
        '<div class="duo-report duo-two-runs"><section><h3>What was asked differently</h3>'
        f"<p>First run → second run.</p>{same}<ul>{listed}</ul></section>"
        f"<section><h3>Two runs side by side</h3><p>{LIMITS}</p>{_table(one, other)}</section></div>"
    )


def asked_differently(one: StudyReport, other: StudyReport) -> Iterator[tuple[str, str, str]]:
    """(what, in the first, in the second) of each difference in what was asked."""
    asked = [
        ("Seed", one.seed, other.seed),
        ("Pictures a cell (n)", one.n, other.n),
        ("Seeds for", one.seed_range, other.seed_range),
        (
            "Protocol",
            one.protocol.title if one.protocol else "none",
            other.protocol.title if other.protocol else "none",
        ),
        ("Checkpoint", one.checkpoint, other.checkpoint),
        ("Concept", one.concept, other.concept),
        ("Detector", f"{one.detector.name} {one.detector.version}", f"{other.detector.name} {other.detector.version}"),
    ]
    asked += [("Distance", _metric(one), _metric(other)), ("Files of prompts", _files(one), _files(other))]
    asked += _by_name("Sampling", one.sampling, other.sampling)
    asked += _by_name("Detector", one.detector.settings, other.detector.settings)
    asked += _by_name("Adapter of", _adapters(one), _adapters(other))
    for name, a, b in asked:
        if a != b:
            yield name, str(a), str(b)


def overlap(one: Rate, other: Rate) -> bool:
    """Whether the two 95 % intervals have a value in common."""
    return one.low <= other.high and other.low <= one.high


def _by_name(what: str, one: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    names = dict.fromkeys([*one, *other])
    return [(f"{what}: {name.replace('_', ' ')}", one.get(name, "none"), other.get(name, "none")) for name in names]


def _metric(report: StudyReport) -> str:
    return next(iter(report.models.values())).distance.metric


def _files(report: StudyReport) -> str:
    """Names, hashes and numbers of prompts: a file of the same name may hold others."""
    sources = report.protocol.sources if report.protocol else []
    return ", ".join(f"{one.path} ({short_hash(one.sha256)}, {one.prompts} prompts)" for one in sources) or "none"


def _adapters(report: StudyReport) -> dict[str, str]:
    """Each model with what identifies it; one without an adapter is only there or not."""
    return {
        label_of(key, model): short_hash(model.sha256) if model.sha256 else "no adapter"
        for key, model in report.models.items()
    }


def _table(one: StudyReport, other: StudyReport) -> str:
    both: dict[Place, list[Rate | None]] = {}
    for place, report in enumerate((one, other)):
        for measure, cell, key, rate in rates_of(report):
            both.setdefault((measure, cell, key), [None, None])[place] = rate
    labels = {key: label_of(key, model) for report in (other, one) for key, model in report.models.items()}
    rows = "".join(_row(line_title(one, *place[:2]), labels[place[2]], *rates) for place, rates in both.items())
    heads = "".join(
        f'<th scope="col">{head}</th>' for head in ("Measure", "Model", "First run", "Second run", "Difference")
    )
    return (
        '<div class="duo-scroll" tabindex="0" role="region" aria-label="Two runs side by side">'
        f'<table class="duo-table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _row(title: str, label: str, one: Rate | None, other: Rate | None) -> str:
    apart = "—"
    if one is not None and other is not None:
        points = 100 * (other.rate - one.rate)
        words = "intervals overlap" if overlap(one, other) else "intervals do not overlap"
        clear = "" if overlap(one, other) else ' class="is-clear"'
        apart = f"<span{clear}>{_signed(points)} points<small>{words}</small></span>"
    return (
        f'<tr><th scope="row">{escape(title)}</th><td>{escape(label)}</td><td>{_figure(one)}</td>'
        f"<td>{_figure(other)}</td><td>{apart}</td></tr>"
    )


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")


def _figure(rate: Rate | None) -> str:
    return (
        "—" if rate is None else f"{percent(rate.rate)}<small>{interval(rate)}, {count(rate.n, rate.prompts)}</small>"
    )
