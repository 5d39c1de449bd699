"""The report of an evaluation, made of what was counted of each model, and the command that repeats it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.specs import TOYBOX_ORACLE, without_place
from studio import __version__
from studio.configs import EvaluateConfig
from studio.methods import get_method
from studio.reports.schema import (
    AttackReport,
    DetectorInfo,
    GalleryRow,
    ProtocolReport,
    Rate,
    Scaled,
    StudyReport,
)
from studio.workflow.commands import options_of
from studio.workflow.evaluation_plan import Plan
from studio.workflow.found import Drawn, attack_reports
from studio.workflow.items import EVERYTHING
from studio.workflow.protocol_figures import figures_of
from studio.workflow.scoring import Outcome, paired_tests


class ReportMaker:
    """Puts together what was counted."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def make(
        self,
        outcomes: dict[str, Outcome],
        drawn: dict[str, Drawn],
        found_rows: Sequence[GalleryRow],
        scaled: list[Scaled],
    ) -> StudyReport:
        project, config = self.plan.context.project, self.plan.config
        detector = self.plan.detector
        attacks = attack_reports(self.plan.found, drawn, self.plan.contestants)
        models = {
            key: outcome.model_report(self.plan.items, self.plan.distance.name, _own_rates(attacks, key))
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
            gallery=[*(self._gallery_row(index, outcomes) for index in self.plan.shown), *found_rows],
            tests=paired_tests(self.plan.items, outcomes),
            protocol=self._protocol(outcomes, models, attacks) if self.plan.protocol else None,
            attacks=attacks,
            scaled=scaled,
            seed_range=config.seed_range,
            curve_cells=[EVERYTHING] if any(EVERYTHING in one.also for one in self.plan.items) else [],
            notes=self._notes(attacks),
            command=config.command or self._command(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            studio_version=__version__,
        )

    def _protocol(self, outcomes: dict[str, Outcome], models: dict[str, Any], attacks: list[AttackReport]) -> Any:
        assert self.plan.protocol is not None
        differs = list(self.plan.protocol.differs)
        if self.plan.context.is_toybox and self.plan.protocol.columns and not self.plan.config.prompts:
            differs.append("The embedded checkpoint's own prompts stand for the published ones.")
        return ProtocolReport(
            name=self.plan.protocol.name,
            title=self.plan.protocol.title,
            paper=self.plan.protocol.paper,
            figures=figures_of(self.plan.protocol, self.plan.items, outcomes, models, attacks),
            sources=self.plan.material.sources,
            differs=differs,
            missing=[_without_places(one, self.plan.config) for one in self.plan.missing],
        )

    def _gallery_row(self, index: int, outcomes: dict[str, Outcome]) -> GalleryRow:
        item = self.plan.items[index]
        shots = {key: outcome.shot(index) for key, outcome in outcomes.items()}
        return GalleryRow(cell=item.cell, prompt=item.prompt, seed=item.seed, shots=shots)

    def _notes(self, attacks: Sequence[AttackReport]) -> list[str]:
        notes = ["Prompts and seeds are the same for every model, and none of the seeds was used in training."]
        if self.plan.material.sources and self.plan.config.file_seeds:
            notes[0] = "Prompts and seeds are the same for every model. Rows that name a seed are drawn from it."
        if self.plan.material.sources:
            notes.append("The command is typed in the folder with the files of prompts, whose hashes are given.")
        if self.plan.config.seed_range == "sweep":
            notes.append("These seeds serve to choose settings: report the chosen ones on the other range.")
        if self.plan.no_lpips:
            notes.append(
                "Distance is the root mean squared error of pixels: the backbone of LPIPS is not on the machine that "
                "made this report (`python -m studio doctor` says how to get it)."
            )
        trained = [(c.label, get_method(c.checkpoint.method)) for c in self.plan.contestants if c.checkpoint]
        if on_pairs := [label for label, method in trained if method.uses_pairs]:
            notes.append(f"The training time of {', '.join(on_pairs)} does not count making the pairs.")
        if any(contestant.reference == TOYBOX_ORACLE for contestant in self.plan.contestants):
            notes.append("The oracle is the same checkpoint trained on pictures that never showed the concept.")
        own = {"steps": self.plan.config.steps, "guidance_scale": self.plan.config.guidance_scale}
        if other := [one.title for one in attacks if one.sampling != own]:
            notes.append(f"{', '.join(dict.fromkeys(other))} searched with other sampling than these pictures have.")
        if len({frozenset(_own_rates(attacks, one.key)) for one in self.plan.contestants if one.checkpoint}) > 1:
            notes.append(
                "Not every trained model was attacked in the same ways: where a model does worst, and so its place in "
                "the curve, is by what was tried on it."
            )
        return notes + self.plan.material.notes

    def _command(self) -> str:
        """What to type to have this comparison again: project, size, seed, and whatever is not as it starts from."""
        words = ["python", "-m", "studio", "evaluate", "--project", self.plan.context.project.id]
        return shlex.join(words + options_of(self.plan.effective_config(), self.plan.context.project.checkpoint))


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
