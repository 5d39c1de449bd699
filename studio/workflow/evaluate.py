"""Evaluation: original, trained models and oracle on the same prompts and seeds, and the report of it.

What is asked comes from the studio's own cells, or from a protocol and its files, and from what attacks found. Pictures
are kept for the next evaluation (`studio.workflow.drawing`); the report keeps its own copies of what it shows.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.specs import TOYBOX_ORACLE, without_place
from studio import __version__
from studio.configs import EvaluateConfig
from studio.methods import get_method
from studio.methods.parallel import Group, current_group
from studio.metrics import MEASURES, best_distance
from studio.metrics.base import Detection, Detector, Measure, Metric, MetricUnavailable
from studio.prompts import EvaluationItem
from studio.protocols import PROTOCOLS, attacks_of, lacks
from studio.records import Evaluation
from studio.reports.html import write_html
from studio.reports.schema import (
    AttackReport,
    DetectorInfo,
    GalleryRow,
    ProtocolReport,
    Rate,
    Scaled,
    Shot,
    StudyReport,
)
from studio.workflow.commands import options_of
from studio.workflow.contestants import at_scales, contestants_of
from studio.workflow.context import JobContext, WorkflowError
from studio.workflow.drawing import Drawer, Ready, read
from studio.workflow.found import Drawn, FoundItems, attack_reports, found_by
from studio.workflow.items import EVERYTHING, Material, material_of, refuse_other_labels
from studio.workflow.protocol_figures import figures_of
from studio.workflow.scoring import Outcome, concept_rates, measured, paired_tests, retention_rates

ALONE = Group()


class Evaluator:
    """Draws, judges and counts, one model after the other."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.config = EvaluateConfig(**context.config)
        self.protocol = PROTOCOLS.get(self.config.protocol)
        self.contestants = contestants_of(context, self.config)
        self.trained = [one.checkpoint for one in self.contestants if one.checkpoint]
        self.attacks = self._attacks()
        self.missing = self._lacks()
        self.material: Material = material_of(context, self.config, self.protocol)
        self.items = self.material.items
        self.found = found_by(context, self.attacks)
        self.finds = {one.key: FoundItems(self.found, one) for one in self.contestants}
        self.few = [self.items[row] for row in first_of_each_cell(self.items, self.config.scale_pictures)]
        self.scaled = at_scales(self.contestants, self.config.scales)
        self.whole = sum(len(self.items) + len(self.finds[one.key].items) for one in self.contestants)
        self.total = self.whole + len(self.few) * len(self.scaled)
        self.detector: Detector = context.load_detector()
        self.distance: Metric
        self.distance, self.no_lpips = best_distance()
        self.measures = self._load_measures()
        self._refuse_what_is_missing()
        self.drawer = Drawer(context, self.config, self.total)
        self.shown = first_of_each_cell(self.items, self.config.gallery)

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
        return self._report(outcomes, drawn, found_rows, self._scaled(ALONE))

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
                if rows := [row for row in batch.rows if self._is_asked(measure, self.items[row])]:
                    asked = batch.images[[row - batch.rows.start for row in rows]]
                    reference = np.stack([read(original[row]) for row in rows])
                    measure.add(asked, reference, [self.items[row].prompt for row in rows])
        mean = float(np.mean(distances)) if distances else None
        return Outcome(ready.contestant, detections, paths, mean, {one.name: measured(one) for one in self.measures})

    @staticmethod
    def _is_asked(measure: Measure, item: EvaluationItem) -> bool:
        return item.cell == measure.asks if measure.asks else item.is_kept

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

    def _attacks(self) -> list[str]:
        """The attacks whose finds are drawn, fixed from here on: a later one does not join a resumed evaluation."""
        jobs = self.context.store.list_jobs(self.context.project.id)
        if self.protocol is None:
            return list(dict.fromkeys(self.config.attacks))
        return attacks_of(self.protocol, self.config, jobs, self.trained)

    def _lacks(self) -> list[str]:
        """What the protocol lacks: files, attacks, a detector."""
        if self.protocol is None:
            return []
        jobs = self.context.store.list_jobs(self.context.project.id)
        return lacks(self.protocol, self.config, self.context.project, jobs, self.trained)

    def _load_measures(self) -> list[Measure]:
        """What can be measured; what cannot is refused, or of a protocol goes to what is missing.

        Raises WorkflowError.
        """
        wanted = dict.fromkeys([*(self.protocol.measures if self.protocol else ()), *self.config.measures])
        loaded = []
        for name in wanted:
            try:
                measure = MEASURES[name]()
                self._check_number(name, measure)
            except (MetricUnavailable, WorkflowError) as error:
                words = str(error) if isinstance(error, WorkflowError) else f"{name} cannot be measured here. {error}"
                if not self.protocol:
                    raise WorkflowError(words) from None
                self.missing.append(words)
            else:
                loaded.append(measure)
        if self.protocol and self.protocol.distance and self.distance.name != self.protocol.distance:
            self.missing.append(f"{self.protocol.distance} cannot be measured here. {self.no_lpips}")
        return loaded

    def _check_number(self, name: str, measure: Measure) -> None:
        kept = sum(self._is_asked(measure, item) for item in self.items)
        if kept < measure.fewest:
            raise WorkflowError(
                f"{name} needs {measure.fewest} pictures of prompts without the concept; there would be {kept}. "
                f"Raise n ({self.config.n}) or leave {name} out."
            )

    def _refuse_what_is_missing(self) -> None:
        """Before the first picture. Raises WorkflowError."""
        refuse_other_labels(self.items, self.detector)
        if self.missing and not self.config.incomplete:
            listed = "\n".join(f"- {one}" for one in self.missing)
            title = self.protocol.title if self.protocol else ""
            raise WorkflowError(
                f"“{title}” lacks {len(self.missing)} of what it needs. Get it, or measure the rest alone "
                f"(--incomplete), which the report then says.\n{listed}"
            )
        if not self.items and not self.found:
            raise WorkflowError("Nothing is left to draw. Give the protocol a file of prompts.")

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

    def _report(
        self,
        outcomes: dict[str, Outcome],
        drawn: dict[str, Drawn],
        found_rows: Sequence[GalleryRow],
        scaled: list[Scaled],
    ) -> StudyReport:
        project, config = self.context.project, self.config
        detector = self.detector
        attacks = attack_reports(self.found, drawn, self.contestants)
        models = {
            key: outcome.model_report(self.items, self.distance.name, _own_rates(attacks, key))
            for key, outcome in outcomes.items()
        }
        return StudyReport(
            checkpoint=without_place(project.checkpoint),
            concept=project.concept,
            seed=config.seed,
            models=models,
            n=config.n,
            detector=DetectorInfo(name=detector.name, version=detector.version, settings=_named(detector.settings)),
            sampling={"steps": config.steps, "guidance_scale": config.guidance_scale},
            gallery=[*(self._gallery_row(index, outcomes) for index in self.shown), *found_rows],
            tests=paired_tests(self.items, outcomes),
            protocol=self._protocol(outcomes, models, attacks) if self.protocol else None,
            attacks=attacks,
            scaled=scaled,
            seed_range=config.seed_range,
            curve_cells=[EVERYTHING] if any(EVERYTHING in one.also for one in self.items) else [],
            notes=self._notes(attacks),
            command=config.command or self._command(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            studio_version=__version__,
        )

    def _protocol(self, outcomes: dict[str, Outcome], models: dict[str, Any], attacks: list[AttackReport]) -> Any:
        assert self.protocol is not None
        differs = list(self.protocol.differs)
        if self.context.is_toybox and self.protocol.columns and not self.config.prompts:
            differs.append("The embedded checkpoint's own prompts stand for the published ones.")
        return ProtocolReport(
            name=self.protocol.name,
            title=self.protocol.title,
            paper=self.protocol.paper,
            figures=figures_of(self.protocol, self.items, outcomes, models, attacks),
            sources=self.material.sources,
            differs=differs,
            missing=[_without_places(one, self.config) for one in self.missing],
        )

    def _gallery_row(self, index: int, outcomes: dict[str, Outcome]) -> GalleryRow:
        item = self.items[index]
        shots = {key: outcome.shot(index) for key, outcome in outcomes.items()}
        return GalleryRow(cell=item.cell, prompt=item.prompt, seed=item.seed, shots=shots)

    def _notes(self, attacks: Sequence[AttackReport]) -> list[str]:
        notes = ["Prompts and seeds are the same for every model, and none of the seeds was used in training."]
        if self.material.sources and self.config.file_seeds:
            notes[0] = "Prompts and seeds are the same for every model. Rows that name a seed are drawn from it."
        if self.material.sources:
            notes.append("The command is typed in the folder with the files of prompts, whose hashes are given.")
        if self.config.seed_range == "sweep":
            notes.append("These seeds serve to choose settings: report the chosen ones on the other range.")
        if self.no_lpips:
            notes.append(
                "Distance is the root mean squared error of pixels: the backbone of LPIPS is not on the machine that "
                "made this report (`python -m studio doctor` says how to get it)."
            )
        trained = [(c.label, get_method(c.checkpoint.method)) for c in self.contestants if c.checkpoint]
        if on_pairs := [label for label, method in trained if method.uses_pairs]:
            notes.append(f"The training time of {', '.join(on_pairs)} does not count making the pairs.")
        if any(contestant.reference == TOYBOX_ORACLE for contestant in self.contestants):
            notes.append("The oracle is the same checkpoint trained on pictures that never showed the concept.")
        own = {"steps": self.config.steps, "guidance_scale": self.config.guidance_scale}
        if other := [one.title for one in attacks if one.sampling != own]:
            notes.append(f"{', '.join(dict.fromkeys(other))} searched with other sampling than these pictures have.")
        if len({frozenset(_own_rates(attacks, one.key)) for one in self.contestants if one.checkpoint}) > 1:
            notes.append(
                "Not every trained model was attacked in the same ways: where a model does worst, and so its place in "
                "the curve, is by what was tried on it."
            )
        return notes + self.material.notes

    def effective_config(self) -> EvaluateConfig:
        """The configuration with the models that are compared by name: later ones do not join a resumed comparison."""
        return self.config.model_copy(
            update={"checkpoint_ids": [one.id for one in self.trained], "attacks": self.attacks}
        )

    def _command(self) -> str:
        """What to type to have this comparison again: project, size, seed, and whatever is not as it starts from."""
        words = ["python", "-m", "studio", "evaluate", "--project", self.context.project.id]
        return shlex.join(words + options_of(self.effective_config(), self.context.project.checkpoint))


def first_of_each_cell(items: Sequence[EvaluationItem], count: int) -> list[int]:
    """The numbers of the first `count` items of each cell."""
    seen: Counter[str] = Counter()
    chosen = []
    for index, item in enumerate(items):
        seen[item.cell] += 1
        if seen[item.cell] <= count:
            chosen.append(index)
    return chosen


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


def _without_places(words: str, config: EvaluateConfig) -> str:
    """A report is handed on: where files would lie on this machine is nobody's business."""
    for path in (*config.prompts, *config.unrelated):
        words = words.replace(path, Path(path).name)
    return re.sub(r" \(looked [^)]*\)", "", words)


def _named(settings: dict[str, Any]) -> dict[str, Any]:
    """A detector's settings with the name of its file alone."""
    model = settings.get("model")
    return {**settings, "model": Path(str(model)).name} if model else settings


def _own_rates(attacks: Sequence[AttackReport], key: str) -> dict[str, Rate]:
    """What attacks on this very model reach on fresh seeds, by attack."""
    return {one.attack: one.fresh[key] for one in attacks if one.victim == key and key in one.fresh}
