"""From judged pictures to rates: what a model still shows, and what it kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from studio.metrics.base import Detection, Measure
from studio.prompts import CONCEPT_CELLS, EvaluationItem
from studio.reports.attacks import holm, mcnemar
from studio.reports.schema import (
    ConceptCell,
    Distance,
    Measured,
    ModelReport,
    PairedTest,
    Rate,
    RetentionKind,
    Shot,
)
from studio.reports.statistics import rate_of
from studio.workflow.contestants import Contestant

RETENTION_KINDS: tuple[RetentionKind, ...] = ("object", "neighbour", "shirt", "background")


@dataclass(frozen=True)
class Outcome:
    """One model's pictures, judged."""

    contestant: Contestant
    detections: list[Detection]  # by item
    paths: list[Path]
    distance: float | None
    measures: dict[str, Measured] = field(default_factory=dict)

    def shot(self, index: int) -> Shot:
        detection = self.detections[index]
        return Shot(
            picture=f"pictures/{self.paths[index].name}",
            found=detection.found,
            score=detection.score,
            object=detection.facts.get("object", ""),
        )

    def model_report(self, items: Sequence[EvaluationItem], distance: str) -> ModelReport:
        checkpoint = self.contestant.checkpoint
        return ModelReport(
            concept_rate=concept_rates(items, self.detections),
            retention=retention_rates(items, self.detections),
            distance=Distance(metric=distance, mean=self.distance),
            train_seconds=checkpoint.train_seconds if checkpoint else None,
            config=checkpoint.config if checkpoint else {},
            label=self.contestant.label,
            method=checkpoint.method if checkpoint else "",
            sha256=checkpoint.sha256 if checkpoint else "",
            measures=self.measures,
        )


def concept_rates(items: Sequence[EvaluationItem], detections: Sequence[Detection]) -> dict[ConceptCell, Rate]:
    """Share of pictures in which the concept was found, by cell."""
    found: dict[str, list[bool]] = {}
    for item, detection in zip(items, detections, strict=True):
        if item.cell in CONCEPT_CELLS:
            found.setdefault(item.cell, []).append(detection.found)
    return {cell: rate_of(found[cell]) for cell in CONCEPT_CELLS if cell in found}


def retention_rates(items: Sequence[EvaluationItem], detections: Sequence[Detection]) -> dict[RetentionKind, Rate]:
    """Share of pictures without the concept in the prompt that show what was asked.

    "object" and "neighbour" are the right object in the cell of that name; shirt and background count over both.
    Only what the prompt's item expects and the detector names is counted; "unclear" is never right.
    """
    kept: dict[str, list[bool]] = {}
    for item, detection in zip(items, detections, strict=True):
        if item.cell in CONCEPT_CELLS:
            continue
        for fact in item.expected.keys() & detection.facts.keys():
            name = item.cell if fact == "object" else fact
            kept.setdefault(name, []).append(detection.facts[fact] == item.expected[fact])
    return {name: rate_of(kept[name]) for name in RETENTION_KINDS if name in kept}


def measured(measure: Measure) -> Measured:
    """What a measure says of the pictures that it was given."""
    value, n = measure.take()
    return Measured(title=measure.title, value=value, n=n, higher_is_better=measure.higher_is_better)


def paired_tests(items: Sequence[EvaluationItem], outcomes: Mapping[str, Outcome]) -> list[PairedTest]:
    """Every two models in every cell of the concept, on the same prompts and seeds; Holm's correction over all."""
    tests = []
    for cell in dict.fromkeys(item.cell for item in items if item.cell in CONCEPT_CELLS):
        rows = [index for index, item in enumerate(items) if item.cell == cell]
        for first, second in combinations(outcomes, 2):
            found = [[outcomes[key].detections[row].found for row in rows] for key in (first, second)]
            tests.append((cell, first, second, mcnemar(*found)))
    corrected = holm([test.p for *_, test in tests])
    return [
        PairedTest(
            cell=cell, first=first, second=second, only_first=test.only_first, only_second=test.only_second, n=test.n,
            p=test.p, holm=p,
        )
        for (cell, first, second, test), p in zip(tests, corrected, strict=True)
    ]  # fmt: skip
