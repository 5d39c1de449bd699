"""Evaluation: original, trained models and oracle on the same prompts and seeds, and the report of it.

What is asked comes from the studio's own cells, or from a protocol and its files, and from what attacks found. Pictures
are kept for the next evaluation (`studio.workflow.drawing`); the report keeps its own copies of what it shows.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from studio.methods.parallel import Group, current_group
from studio.metrics.base import Detection
from studio.prompts import EvaluationItem
from studio.records import Evaluation
from studio.reports.html import write_html
from studio.reports.schema import (
    GalleryRow,
    Scaled,
    Shot,
    StudyReport,
)
from studio.workflow.context import JobContext
from studio.workflow.drawing import Ready, read
from studio.workflow.evaluation_plan import Plan
from studio.workflow.evaluation_report import ReportMaker
from studio.workflow.found import Drawn
from studio.workflow.scoring import Outcome, concept_rates, measured, retention_rates

ALONE = Group()


class Evaluator(Plan):
    """Draws, judges and counts, one model after the other."""

    def run(self) -> StudyReport:
        """Every model on every item; the original comes first, since distances are measured to it."""
        self.drawer.check_adapters(self.contestants)
        self.draw_share()
        outcomes: dict[str, Outcome] = {}
        drawn: dict[str, Drawn] = {}
        found_rows: list[GalleryRow] = []
        original: list[Path] = []
        done = 0
        for contestant in self.contestants:
            with self.drawer.ready(contestant, done) as ready:
                paths = [self.drawer.path(ready.weights, item) for item in self.items]
                original = original or paths
                outcomes[contestant.key] = self._measure(ready, paths, original, done)
                done += len(self.items)
                drawn[contestant.key] = self._judge_finds(ready, done)
                found_rows = self._found_rows(found_rows, ready, drawn[contestant.key])
                done += len(drawn[contestant.key].detections)
                self.context.report(done, self.total, f"{contestant.label}: done")
        return ReportMaker(self).make(outcomes, drawn, found_rows, self._scaled(ALONE))

    def draw_share(self) -> None:
        """In a group of processes: draw this one's batches of every model, and wait for the others'.

        The pictures lie in files; whoever makes the report finds them there. Alone, nothing is drawn ahead.
        """
        group, done = current_group(), 0
        if group.size == 1:
            return
        for contestant in self.contestants:
            with self.drawer.ready(contestant, done) as ready:
                for items in (self.items, self.finds[contestant.key].items):
                    for _ in self.drawer.batches(ready, items, done, group):
                        pass
                    done += len(items)
        self._scaled(group)
        group.wait(self.drawer.bundle(self.contestants[0].reference).device)

    def _measure(self, ready: Ready, paths: list[Path], original: list[Path], done: int) -> Outcome:
        """Draw what is missing and judge it, a batch at a time."""
        detections: list[Detection] = []
        distances: list[float] = []
        for batch in self.drawer.batches(ready, self.items, done, ALONE):
            detections += self.detector.detect(batch.images)
            if rows := [row for row in batch.rows if self.items[row].is_kept]:
                kept = batch.images[[row - batch.rows.start for row in rows]]
                reference = np.stack([read(original[row]) for row in rows])
                distances += list(self.distance.score(kept, reference))
            for measure in self.measures:
                if rows := [row for row in batch.rows if self.is_asked(measure, self.items[row])]:
                    asked = batch.images[[row - batch.rows.start for row in rows]]
                    reference = np.stack([read(original[row]) for row in rows])
                    measure.add(asked, reference, [self.items[row].prompt for row in rows])
        mean = float(np.mean(distances)) if distances else None
        return Outcome(ready.contestant, detections, paths, mean, {one.name: measured(one) for one in self.measures})

    def _judge_finds(self, ready: Ready, done: int) -> Drawn:
        """What attacks found, drawn by this model."""
        finds = self.finds[ready.contestant.key]
        detections: list[Detection] = []
        for batch in self.drawer.batches(ready, finds.items, done, ALONE):
            detections += self.detector.detect(batch.images)
        return Drawn(finds, detections)

    def _scaled(self, group: Group) -> list[Scaled]:
        """The models at other scales than their own, on the first items of each cell; a group draws its shares."""
        found = []
        for number, contestant in enumerate(self.scaled):
            done = self.whole + number * len(self.few)
            detections: list[Detection] = []
            with self.drawer.ready(contestant, done) as ready:
                for batch in self.drawer.batches(ready, self.few, done, group):
                    detections += self.detector.detect(batch.images) if group.size == 1 else []
            if group.size == 1:
                rates = concept_rates(self.few, detections), retention_rates(self.few, detections)
                one = Scaled(model=contestant.key, scale=contestant.scale, concept_rate=rates[0], retention=rates[1])
                found.append(one)
        return found

    def _found_rows(self, rows: list[GalleryRow], ready: Ready, drawn: Drawn) -> list[GalleryRow]:
        """This model's pictures of the first prompts of each attack, put to those of the models before it."""
        shots: list[tuple[EvaluationItem, str, Shot]] = []
        taken: Counter[int] = Counter()
        for item, place, detection in zip(drawn.items.items, drawn.items.places, drawn.detections, strict=True):
            one = self.found[place.found]
            asked = one.asked[place.row]
            if place.role != "attack" or not place.first or asked.attack is None:
                continue
            taken[place.found] += 1
            if taken[place.found] <= self.config.gallery:
                picture = f"pictures/{self.drawer.path(ready.weights, item).name}"
                shot = Shot(picture=picture, found=detection.found, score=detection.score)
                shots.append((item, f"{one.title} on {one.name}, for “{asked.plain.prompt}”", shot))
        key = ready.contestant.key
        if not rows:
            return [
                GalleryRow(cell=item.cell, prompt=item.prompt, seed=item.seed, shots={key: shot}, note=note)
                for item, note, shot in shots
            ]
        return [
            row.model_copy(update={"shots": {**row.shots, key: shot}})
            for row, (*_, shot) in zip(rows, shots, strict=True)
        ]


def follow_evaluation(context: JobContext) -> None:
    """Draw this process's share of the pictures beside the process that has the job."""
    Evaluator(context).draw_share()


def evaluate(context: JobContext) -> dict[str, Any]:
    """Compare the models and write report.json and report.html into the evaluation's folder."""
    folder = context.evaluation_folder
    for done in context.store.list_evaluations(context.project.id):
        if done.folder == str(folder):  # the worker died after its last write
            return {"evaluation_id": done.id}
    return judged(context, Evaluator(context))


def judged(context: JobContext, evaluator: Evaluator) -> dict[str, Any]:
    """Run it and keep its report."""
    folder = context.evaluation_folder
    context.save_effective(evaluator.effective_config().model_dump())
    report = evaluator.run()
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for shown in {shot.picture for row in report.gallery for shot in row.shots.values()}:
        shutil.copyfile(evaluator.drawer.folder / Path(shown).name, folder / shown)
    report.write(folder / "report.json")
    write_html(report, folder)
    evaluation = context.store.add_evaluation(
        Evaluation(
            id="",
            project_id=context.project.id,
            job_id=context.job.id,
            folder=str(folder),
            report=report.model_dump(mode="json"),
        )
    )
    return {"evaluation_id": evaluation.id}
