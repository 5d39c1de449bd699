"""Evaluation: original, trained models and oracle on the same prompts and seeds, and the report of it.

Every picture is a file named by what made it (weights, prompt, seed, sampling), so a stopped evaluation goes on where
it was, and the next one of the project draws only what is new to it. The report keeps its own copies of what it shows.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.adapters import WeightDelta, applied, check_base, checked_sha256, load_delta
from models.bundle import ModelBundle
from models.files import write_atomically
from models.fingerprint import fingerprint_of
from models.specs import TOYBOX_ORACLE
from studio import __version__
from studio.configs import EvaluateConfig
from studio.images import png_bytes
from studio.methods import get_method
from studio.methods.parallel import current_group
from studio.metrics import MEASURES, best_distance
from studio.metrics.base import Detection, Detector, Measure, Metric, MetricUnavailable
from studio.prompts import CONCEPT_CELLS, EvaluationItem
from studio.records import Checkpoint, Evaluation
from studio.reports.html import write_html
from studio.reports.schema import DetectorInfo, GalleryRow, StudyReport
from studio.workflow.contestants import Contestant, contestants_of, items_of
from studio.workflow.context import JobContext, WorkflowError
from studio.workflow.scoring import Outcome, measured, paired_tests


class Evaluator:
    """Draws, judges and counts, one model after the other."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.config = EvaluateConfig(**context.config)
        self.items = items_of(context, self.config)
        self.contestants = contestants_of(context, self.config)
        self.total = len(self.items) * len(self.contestants)
        self.detector: Detector = context.load_detector()
        self.distance: Metric
        self.distance, self.no_lpips = best_distance()
        self.measures = self._load_measures()
        self.pictures = context.settings.drawn / context.project.id
        self.shown = self._gallery_indices()
        self.bundles: dict[str, ModelBundle] = {}

    def run(self) -> StudyReport:
        """Every model on every item; the original comes first, since distances are measured to it."""
        self._check_adapters()
        self.draw_share()
        outcomes = {}
        original: list[Path] = []
        for number, contestant in enumerate(self.contestants):
            with self._model(contestant, number) as (bundle, fingerprint):
                paths = [self._path(fingerprint, item) for item in self.items]
                original = original or paths
                outcomes[contestant.key] = self._measure(contestant, bundle, paths, original, number)
        return self._report(outcomes)

    def draw_share(self) -> None:
        """In a group of processes: draw this one's batches of every model, and wait for the others'.

        The pictures lie in files; whoever makes the report finds them there. Alone, nothing is drawn ahead.
        """
        group, size = current_group(), self.config.batch_size
        if group.size == 1:
            return
        batches = range(0, len(self.items), size)
        for number, contestant in enumerate(self.contestants):
            with self._model(contestant, number) as (bundle, fingerprint):
                paths = [self._path(fingerprint, item) for item in self.items]
                for start in batches[group.rank :: group.size]:
                    done = number * len(self.items) + start
                    self.context.report(done, self.total, f"{contestant.label}: picture {start} of {len(self.items)}")
                    rows = range(start, min(start + size, len(self.items)))
                    self._pictures(bundle, contestant, rows, paths)
        group.wait(self._bundle(self.contestants[0].reference).device)

    def _measure(
        self, contestant: Contestant, bundle: ModelBundle, paths: list[Path], original: list[Path], number: int
    ) -> Outcome:
        """Draw what is missing and judge it, a batch at a time."""
        detections: list[Detection] = []
        distances: list[float] = []
        done = number * len(self.items)
        for start in range(0, len(self.items), self.config.batch_size):
            rows = range(start, min(start + self.config.batch_size, len(self.items)))
            self.context.report(done + start, self.total, f"{contestant.label}: picture {start} of {len(self.items)}")
            images = self._pictures(bundle, contestant, rows, paths)
            detections += self.detector.detect(images)
            kept = [row for row in rows if self.items[row].cell not in CONCEPT_CELLS]
            if kept:
                reference = np.stack([_read(original[row]) for row in kept])
                drawn, prompts = images[[row - start for row in kept]], [self.items[row].prompt for row in kept]
                distances += list(self.distance.score(drawn, reference))
                for measure in self.measures:
                    measure.add(drawn, reference, prompts)
        self.context.report(done + len(self.items), self.total, f"{contestant.label}: done")
        mean = float(np.mean(distances)) if distances else None
        return Outcome(contestant, detections, paths, mean, {one.name: measured(one) for one in self.measures})

    def _pictures(self, bundle: ModelBundle, contestant: Contestant, rows: range, paths: list[Path]) -> np.ndarray:
        """The pictures [len(rows), H, W, 3], from their files where they are there."""
        found = {row: image for row in rows if (image := _read_if_whole(paths[row])) is not None}
        missing = [row for row in rows if row not in found]
        if missing:
            items = [self.items[row] for row in missing]
            config = self.config
            made = bundle.generate(
                [item.prompt for item in items],
                [item.seed for item in items],
                steps=config.steps,
                guidance_scale=config.guidance_scale,
                batch_size=config.batch_size,
            )
            for row, item, image in zip(missing, items, made.images, strict=True):
                facts = {"prompt": item.prompt, "seed": item.seed, "steps": config.steps}
                facts |= {"guidance_scale": config.guidance_scale, "model": contestant.label}
                facts |= {"checkpoint": contestant.reference, "software": f"DUO Studio {__version__}"}
                if contestant.checkpoint:
                    facts["adapter_sha256"] = contestant.checkpoint.sha256
                write_atomically(paths[row], png_bytes(image, facts), sync=False)  # thousands; a damaged one is redrawn
                found[row] = image
        return np.stack([found[row] for row in rows])

    @contextmanager
    def _model(self, contestant: Contestant, number: int) -> Iterator[tuple[ModelBundle, str]]:
        """The model ready to draw, and what identifies its weights."""
        bundle = self._bundle(contestant.reference, number)
        fingerprint = fingerprint_of(bundle)
        if contestant.checkpoint is None:
            yield bundle, fingerprint
            return
        delta, sha256 = _adapter(contestant.checkpoint)
        with applied(bundle, delta):
            yield bundle, f"{fingerprint} {sha256}"

    def _bundle(self, reference: str, number: int = 0) -> ModelBundle:
        if reference not in self.bundles:
            self.bundles[reference] = self.context.load_bundle(reference, number * len(self.items), self.total)
        return self.bundles[reference]

    def _load_measures(self) -> list[Measure]:
        """Refuse before the first picture what cannot be measured. Raises WorkflowError."""
        kept = sum(item.cell not in CONCEPT_CELLS for item in self.items)
        loaded = []
        for name in dict.fromkeys(self.config.measures):
            try:
                measure = MEASURES[name]()
            except MetricUnavailable as error:
                raise WorkflowError(f"{name} cannot be measured here. {error}") from None
            if kept < measure.fewest:
                raise WorkflowError(
                    f"{name} needs {measure.fewest} pictures of prompts without the concept; there would be {kept}. "
                    f"Raise n ({self.config.n}) or leave {name} out."
                )
            loaded.append(measure)
        return loaded

    def _check_adapters(self) -> None:
        """Refuse an adapter that will not be drawn with before the first picture, not after an hour."""
        for contestant in self.contestants:
            if contestant.checkpoint is not None:
                check_base(self._bundle(contestant.reference), _adapter(contestant.checkpoint)[0])

    def _path(self, fingerprint: str, item: EvaluationItem) -> Path:
        made_of = [fingerprint, item.prompt, item.seed, self.config.steps, self.config.guidance_scale]
        return self.pictures / f"{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]}.png"

    def _gallery_indices(self) -> list[int]:
        """The first pictures of each cell."""
        seen: Counter[str] = Counter()
        shown = []
        for index, item in enumerate(self.items):
            seen[item.cell] += 1
            if seen[item.cell] <= self.config.gallery:
                shown.append(index)
        return shown

    def _report(self, outcomes: dict[str, Outcome]) -> StudyReport:
        project, config = self.context.project, self.config
        detector = self.detector
        return StudyReport(
            checkpoint=project.checkpoint,
            concept=project.concept,
            seed=config.seed,
            models={key: outcome.model_report(self.items, self.distance.name) for key, outcome in outcomes.items()},
            n=config.n,
            detector=DetectorInfo(name=detector.name, version=detector.version, settings=detector.settings),
            sampling={"steps": config.steps, "guidance_scale": config.guidance_scale},
            gallery=[self._gallery_row(index, outcomes) for index in self.shown],
            tests=paired_tests(self.items, outcomes),
            notes=self._notes(),
            command=config.command or self._command(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            studio_version=__version__,
        )

    def _gallery_row(self, index: int, outcomes: dict[str, Outcome]) -> GalleryRow:
        item = self.items[index]
        shots = {key: outcome.shot(index) for key, outcome in outcomes.items()}
        return GalleryRow(cell=item.cell, prompt=item.prompt, seed=item.seed, shots=shots)

    def _notes(self) -> list[str]:
        notes = ["Prompts and seeds are the same for every model, and none of the seeds was used in training."]
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
        return notes

    def effective_config(self) -> EvaluateConfig:
        """The configuration with the models that are compared by name: later ones do not join a resumed comparison."""
        ids = [contestant.checkpoint.id for contestant in self.contestants if contestant.checkpoint]
        return self.config.model_copy(update={"checkpoint_ids": ids})

    def _command(self) -> str:
        """What to type to have this comparison again: project, size, seed, and whatever is not the default."""
        config = self.effective_config()
        chosen = {"n": config.n, "seed": config.seed} | config.model_dump(exclude_defaults=True, exclude={"command"})
        words = ["python", "-m", "studio", "evaluate", "--project", self.context.project.id]
        for name, value in chosen.items():
            option = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{option}" if value else f"--no-{option}")
                continue
            for one in value if isinstance(value, list) else [value]:
                words += [f"--{option}", str(one)]
        return shlex.join(words)


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
        shutil.copyfile(evaluator.pictures / Path(shown).name, folder / shown)
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


def _adapter(checkpoint: Checkpoint) -> tuple[WeightDelta, str]:
    """The adapter and the SHA-256 of its file as it is now. Raises LoadError where it is not the one that was saved."""
    path = Path(checkpoint.path)
    sha256 = checked_sha256(path, checkpoint.sha256)
    return load_delta(path), sha256


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _read_if_whole(path: Path) -> np.ndarray | None:
    """The picture, or None where it is missing or damaged and must be drawn (again)."""
    try:
        return _read(path)
    except (OSError, SyntaxError):  # Pillow's words for damage
        return None
