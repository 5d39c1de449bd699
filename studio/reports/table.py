"""A comparison's figures as a table that other programs read: one row a measure and model."""

from __future__ import annotations

from collections.abc import Iterator

from studio.csv_files import csv_text
from studio.reports.html import label_of
from studio.reports.schema import Rate, StudyReport

COLUMNS = (
    "measure", "cell", "model", "label", "method", "adapter_sha256", "value", "low", "high", "n", "unit", "seed",
    "created",
)  # fmt: skip
MEASURES = ("concept_rate", "retention")


def table_csv(report: StudyReport) -> str:
    """All rates with their 95 % intervals, then distances and training times."""
    return csv_text(COLUMNS, _rows(report))


def rates_of(report: StudyReport) -> Iterator[tuple[str, str, str, Rate]]:
    """(measure, cell, key of the model, rate) of each, models of a cell together."""
    for measure in MEASURES:
        cells = dict.fromkeys(cell for model in report.models.values() for cell in getattr(model, measure))
        for cell in cells:
            for key, model in report.models.items():
                if cell in getattr(model, measure):
                    yield measure, cell, key, getattr(model, measure)[cell]


def _rows(report: StudyReport) -> Iterator[dict[str, object]]:
    about = {
        key: {
            "model": key, "label": label_of(key, model), "method": model.method, "adapter_sha256": model.sha256,
            "seed": report.seed, "created": report.created,
        }
        for key, model in report.models.items()
    }  # fmt: skip
    for measure, cell, key, rate in rates_of(report):
        found = {"value": rate.rate, "low": rate.low, "high": rate.high, "n": rate.n, "unit": "share"}
        yield {"measure": measure, "cell": cell, **about[key], **found}
    for key, model in report.models.items():
        if model.distance.mean is not None:
            unit = model.distance.metric
            yield {"measure": "distance", **about[key], "value": model.distance.mean, "unit": unit}
        if model.train_seconds is not None:
            yield {"measure": "training_time", **about[key], "value": model.train_seconds, "unit": "s"}
