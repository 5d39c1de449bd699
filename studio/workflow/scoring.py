"""From judged pictures to rates: what a model still shows, and what it kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from studio.metrics.base import Detection, Measure
from studio.prompts import EvaluationItem
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
from studio.reports.statistics import wilson
from studio.workflow.contestants import Contestant
from studio.workflow.found import by_prompt
from studio.workflow.items import cells_of

RETENTION_KINDS: tuple[RetentionKind, ...] = ("object", "neighbour", "shirt", "background", "in_domain", "cross_domain")


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

    def model_report(
        self, items: Sequence[EvaluationItem], distance: str, attacked: Mapping[ConceptCell, Rate]
    ) -> ModelReport:
        """Its figures; `attacked` are those of attacks that were run on it."""
        checkpoint = self.contestant.checkpoint
        return ModelReport(
            concept_rate={**concept_rates(items, self.detections), **attacked},
            retention=retention_rates(items, self.detections),
            distance=Distance(metric=distance, mean=self.distance),
            train_seconds=checkpoint.train_seconds if checkpoint else None,
            config=checkpoint.config if checkpoint else {},
            label=self.contestant.label,
            method=checkpoint.method if checkpoint else "",
            sha256=checkpoint.sha256 if checkpoint else "",
            measures=self.measures,
            broken_rate=broken_rates(items, self.detections),
        )


def concept_rates(items: Sequence[EvaluationItem], detections: Sequence[Detection]) -> dict[ConceptCell, Rate]:
    """Share of pictures in which the concept was found, by cell."""
    found: dict[str, Tally] = {cell: Tally() for cell in cells_of(items)}
    for number, item, detection in numbered(items, detections):
        if item.asks_concept:
            for cell in item.cells:
                found[cell].add(number, detection.found)
    return {cell: tally.rate() for cell, tally in found.items()}


def broken_rates(items: Sequence[EvaluationItem], detections: Sequence[Detection]) -> dict[ConceptCell, Rate]:
    """Share of the same pictures in which the detector recognises nothing; {} where it does not name what it sees."""
    if not all("object" in detection.facts for detection in detections):
        return {}
    broken: dict[str, Tally] = {cell: Tally() for cell in cells_of(items)}
    for number, item, detection in numbered(items, detections):
        if item.asks_concept:
            for cell in item.cells:
                broken[cell].add(number, detection.facts["object"] == "unclear")
    return {cell: tally.rate() for cell, tally in broken.items()}


def retention_rates(items: Sequence[EvaluationItem], detections: Sequence[Detection]) -> dict[RetentionKind, Rate]:
    """Share of pictures without the concept in the prompt that show what was asked.

    "object" and "neighbour" are the right object in the cell of that name, as is a file's label; shirt and background
    count over both. Only what the prompt's item expects and the detector names is counted; "unclear" is never right.
    """
    kept: dict[str, Tally] = {}
    for number, item, detection in numbered(items, detections):
        if item.is_kept:
            for fact, right in rights(item, detection).items():
                name = item.cell if fact in ("object", "label") else fact
                kept.setdefault(name, Tally()).add(number, right)
    return {name: kept[name].rate() for name in sorted(kept, key=_place)}


def rights(item: EvaluationItem, detection: Detection) -> dict[str, bool]:
    """What was expected of a picture and is named by the detector, and whether it is there."""
    seen = {name: value.casefold() for name, value in detection.facts.items()}
    if detection.labels:
        likeliest = max(detection.labels, key=lambda name: detection.labels[name])
        seen["label"] = detection.facts.get("object", likeliest).casefold()  # "unclear" is never right
    return {fact: seen[fact] == item.expected[fact].casefold() for fact in item.expected if fact in seen}


class Tally:
    """Pictures by prompt: how many show it, of how many."""

    def __init__(self) -> None:
        self._by_prompt: dict[int, list[int]] = {}

    def add(self, prompt: int, found: bool) -> None:
        entry = self._by_prompt.setdefault(prompt, [0, 0])
        entry[0] += found
        entry[1] += 1

    @property
    def shares(self) -> list[float]:
        """Of each prompt's pictures."""
        return [found / count for found, count in self._by_prompt.values()]

    def rate(self) -> Rate:
        """With Wilson's interval where each prompt has one picture, else a bootstrap by prompt."""
        found, counts = ([entry[place] for entry in self._by_prompt.values()] for place in (0, 1))
        return wilson(sum(found), len(counts)) if max(counts) == 1 else by_prompt(found, counts)


def numbered(
    items: Sequence[EvaluationItem], detections: Sequence[Detection]
) -> Iterator[tuple[int, EvaluationItem, Detection]]:
    """Items and what was seen, each with the number of its prompt: its later pictures have that of the first."""
    numbers: dict[tuple[bool, str], int] = {}
    count = 0
    for item, detection in zip(items, detections, strict=True):
        prompt = item.asks_concept, item.prompt
        if item.repeat == 0:
            numbers[prompt], count = count, count + 1
        yield numbers[prompt], item, detection


def _place(name: str) -> int:
    return RETENTION_KINDS.index(name) if name in RETENTION_KINDS else len(RETENTION_KINDS)


def measured(measure: Measure) -> Measured:
    """What a measure says of the pictures that it was given."""
    value, n = measure.take()
    about: dict[str, Any] = {
        "title": measure.title,
        "value": value,
        "n": n,
        "higher_is_better": measure.higher_is_better,
    }
    if not measure.is_share:
        return Measured(**about)
    rate = wilson(round(value * n), n)
    return Measured(**about, low=rate.low, high=rate.high)


def paired_tests(items: Sequence[EvaluationItem], outcomes: Mapping[str, Outcome]) -> list[PairedTest]:
    """Every two models in every cell of the concept, on the same prompts and seeds; Holm's correction over all.

    Of a prompt with several pictures the first counts: they are not independent.
    """
    tests = []
    for cell in cells_of(items):
        rows = [
            index for index, item in enumerate(items) if item.asks_concept and item.repeat == 0 and cell in item.cells
        ]
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
