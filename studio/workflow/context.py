"""What every kind of work is given, and what it shares: the project's model, detector and file places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from models.bundle import ModelBundle
from models.loading import load_bundle
from models.specs import parse_reference
from studio import prompts
from studio.metrics import get_detector
from studio.metrics.base import Detector
from studio.progress import Report
from studio.records import Job, Project
from studio.refusal import refuse
from studio.settings import Settings
from studio.store import Store


class WorkflowError(RuntimeError):
    """Work that cannot be done as asked; says the cause and the remedy."""


@dataclass(frozen=True)
class JobContext:
    """One job's work, or one stage of it."""

    store: Store
    settings: Settings
    job: Job
    config: dict[str, Any]  # effective; of the stage, where the job has several
    report: Report
    stage: str = ""  # name of the stage, "" where the job is one piece

    def for_stage(self, stage: str, config: dict[str, Any], report: Report) -> JobContext:
        """The same job seen by one of its stages."""
        return replace(self, stage=stage, config=config, report=report)

    @cached_property
    def project(self) -> Project:
        return self.store.get_project(self.job.project_id)

    @property
    def folder_name(self) -> str:
        """Names this work's own folders: a resumed job finds them again."""
        return f"{self.job.id}-{self.stage}" if self.stage else self.job.id

    @property
    def training_folder(self) -> Path:
        return self.settings.checkpoints / self.folder_name

    @property
    def evaluation_folder(self) -> Path:
        return self.settings.evaluations / self.folder_name

    @property
    def is_toybox(self) -> bool:
        """Whether the project forgets the embedded checkpoint's concept, whose prompts and oracle we know."""
        reference = parse_reference(self.project.checkpoint)
        return reference.kind == "toybox" and self.project.concept == prompts.CONCEPT

    def load_bundle(self, reference: str | None = None, done: int = 0, total: int = 1) -> ModelBundle:
        """The project's checkpoint, or another one; `done` of `total` steps of the work lie behind."""
        reference = reference or self.project.checkpoint
        self.report(done, total, f"Loading {reference}")
        bundle = load_bundle(
            reference,
            device=self.settings.device,
            toybox=self.settings.toybox,
            dtype=self.settings.dtype,
            waits=self.job.kind == "train" and bool(self.config["config"].get("shard_base")),
        )
        if bundle.spec.note:
            print(f"{reference}: {bundle.spec.note}", flush=True)  # into the job's log
            self.report(done, total, bundle.spec.note)
        return bundle

    def load_detector(self) -> Detector:
        return get_detector(self.project.detector, self.project.detector_settings, self.settings.toybox)

    def save_effective(self, config: dict[str, Any]) -> None:
        """Store what is really used with the job. A stage keeps it under its name."""
        stored = config
        if self.stage:
            whole = self.store.get_job(self.job.id).config
            stored = {**whole, "stages": {**whole.get("stages", {}), self.stage: config}}
        self.store.update_job(self.job.id, config=stored)


def refuse_prompts(context: JobContext) -> None:
    """Raise WorkflowError where the job would draw or train on a prompt that is refused in every project.

    Looks at the project's prompt pairs and at every text in the job's configuration.
    """
    pairs = context.store.list_prompt_pairs(context.project.id)
    texts = [(f"prompt pair {number}", text) for number, p in enumerate(pairs, 1) for text in (p.unsafe, p.safe)]
    texts += [("the job's configuration", text) for text in _texts(context.config)]
    for where, text in texts:
        if (reason := refuse(text)) is not None:
            raise WorkflowError(f"{reason} It is in {where} of project {context.project.name!r}: remove it first.")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
