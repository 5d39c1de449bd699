"""What every tab needs: the studio's parts in one hand, one project's rows in the other, and what a tab is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import gradio as gr

from studio.inference.client import InferenceClient, ModelChoice
from studio.jobs import Runner
from studio.prompts import CONCEPT
from studio.records import Checkpoint, Evaluation, Job, PairCounts, Project, PromptPair
from studio.settings import Settings
from studio.store import Store
from studio.ui.words import short_hash

ORIGINAL, ORACLE = "original", "oracle"
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}  # of every event on the page


@dataclass(frozen=True)
class View:
    """The rows of one project that the page shows, read once a tick."""

    project: Project
    projects: tuple[Project, ...]
    prompts: tuple[PromptPair, ...]
    pairs: PairCounts
    jobs: tuple[Job, ...]
    checkpoints: tuple[Checkpoint, ...]
    evaluations: tuple[Evaluation, ...]

    def last_job(self, *kinds: str) -> Job | None:
        """The newest job of these kinds."""
        return next((job for job in reversed(self.jobs) if job.kind in kinds), None)


@dataclass(frozen=True)
class Studio:
    """The parts that build_ui is given, handed on to each tab."""

    settings: Settings
    store: Store
    runner: Runner
    client: InferenceClient
    _evaluations: dict[str, Evaluation] = field(default_factory=dict, repr=False, compare=False)

    def view(self, project_id: str) -> View:
        """The project's rows as they are now. Raises NotFoundError."""
        store = self.store
        return View(
            project=store.get_project(project_id),
            projects=tuple(store.list_projects()),
            prompts=tuple(store.list_prompt_pairs(project_id)),
            pairs=store.pair_counts(project_id),
            jobs=tuple(store.list_jobs(project_id)),
            checkpoints=tuple(store.list_checkpoints(project_id)),
            evaluations=tuple(self._evaluation(key) for key in store.evaluation_ids(project_id)),
        )

    def _evaluation(self, evaluation_id: str) -> Evaluation:
        """An evaluation never changes, and its report is large: each is read once."""
        if evaluation_id not in self._evaluations:
            self._evaluations[evaluation_id] = self.store.get_evaluation(evaluation_id)
        return self._evaluations[evaluation_id]


class Tab(Protocol):
    """One part of the page that follows the store's rows. Built by its own module, kept true by `studio.ui.build`."""

    @property
    def outputs(self) -> list[Any]:
        """The components that `refresh` fills."""
        ...

    @property
    def choices(self) -> list[Any]:
        """The components whose values `refresh` is given: what the visitor chose, typed or ticked."""
        ...

    def shows(self, view: View) -> Any:
        """What of the rows this part shows, to be compared: while it stays equal, a tick leaves the part alone."""
        ...

    def refresh(self, view: View, *choices: Any) -> list[Any]:
        """New values of `outputs`; the choices are None where another project was opened."""
        ...


@runtime_checkable
class Linked(Protocol):
    """A part whose state the page's address can hold."""

    @property
    def restored(self) -> list[Any]:
        """The components that `restore` fills."""
        ...

    def restore(self, project_id: str, request: gr.Request) -> list[Any]:
        """New values of `restored`, once a page is opened and filled from the store."""
        ...


def project_options(projects: tuple[Project, ...] | list[Project]) -> list[tuple[str, str]]:
    """(name, id) of every project, as a list to choose from."""
    return [(project.name, project.id) for project in projects]


def is_sample(project: Project) -> bool:
    """Whether the project forgets the sword on the embedded checkpoint, as the demo does."""
    return project.checkpoint == "toybox" and project.concept == CONCEPT


def models_of(project: Project, checkpoints: tuple[Checkpoint, ...] | list[Checkpoint]) -> dict[str, ModelChoice]:
    """Every model of a project by its key, in the order of the columns: original, trained ones, oracle."""
    models = {ORIGINAL: ModelChoice("Original", project.checkpoint)}
    for checkpoint in checkpoints:
        models[checkpoint.id] = ModelChoice(
            checkpoint.name, project.checkpoint, adapter_path=checkpoint.path, adapter_sha256=checkpoint.sha256
        )
    if project.checkpoint == "toybox":
        models[ORACLE] = ModelChoice(f"Never saw a {project.concept}", "toybox:oracle")
    return models


def model_options(project: Project, checkpoints: tuple[Checkpoint, ...] | list[Checkpoint]) -> list[tuple[str, str]]:
    """(text, key) of each model, as a list to choose from."""
    return [
        (f"{model.label} · {short_hash(model.adapter_sha256)}" if model.adapter_sha256 else model.label, key)
        for key, model in models_of(project, checkpoints).items()
    ]


def trained_options(view: View) -> list[tuple[str, str]]:
    """(text, id) of each trained model, oldest first."""
    return [(f"{one.name} · {short_hash(one.sha256)}", one.id) for one in view.checkpoints]


def first_choice(project: Project, checkpoints: tuple[Checkpoint, ...] | list[Checkpoint]) -> list[str]:
    """The columns to begin with: original and the newest of each method, or else original and oracle."""
    newest = {checkpoint.method: checkpoint.id for checkpoint in checkpoints}
    keys = models_of(project, checkpoints)
    return [key for key in keys if key == ORIGINAL or key in newest.values() or (key == ORACLE and not newest)]
