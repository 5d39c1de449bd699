"""What every tab needs: the studio's parts in one hand, and the models that a project can be seen through."""

from __future__ import annotations

from dataclasses import dataclass

from studio.inference.client import InferenceClient, ModelChoice
from studio.jobs import Runner
from studio.prompts import CONCEPT
from studio.records import Project
from studio.settings import Settings
from studio.store import Store
from studio.ui.words import short_hash

ORIGINAL, ORACLE = "original", "oracle"


@dataclass(frozen=True)
class Studio:
    """The parts that build_ui is given, handed on to each tab."""

    settings: Settings
    store: Store
    runner: Runner
    client: InferenceClient


def project_options(store: Store) -> list[tuple[str, str]]:
    """(name, id) of every project, as a list to choose from."""
    return [(project.name, project.id) for project in store.list_projects()]


def is_sample(project: Project) -> bool:
    """Whether the project forgets the sword on the embedded checkpoint, as the demo does."""
    return project.checkpoint == "toybox" and project.concept == CONCEPT


def models_of(store: Store, project: Project) -> dict[str, ModelChoice]:
    """Every model of a project by its key, in the order of the columns: original, trained ones, oracle."""
    models = {ORIGINAL: ModelChoice("Original", project.checkpoint)}
    for checkpoint in store.list_checkpoints(project.id):
        models[checkpoint.id] = ModelChoice(
            checkpoint.name, project.checkpoint, adapter_path=checkpoint.path, adapter_sha256=checkpoint.sha256
        )
    if project.checkpoint == "toybox":
        models[ORACLE] = ModelChoice(f"Never saw a {project.concept}", "toybox:oracle")
    return models


def model_options(store: Store, project: Project) -> list[tuple[str, str]]:
    """(text, key) of each model, as a list to choose from."""
    return [
        (f"{model.label} · {short_hash(model.adapter_sha256)}" if model.adapter_sha256 else model.label, key)
        for key, model in models_of(store, project).items()
    ]


def first_choice(store: Store, project: Project) -> list[str]:
    """The columns to begin with: original and the newest of each method, or else original and oracle."""
    newest = {checkpoint.method: checkpoint.id for checkpoint in store.list_checkpoints(project.id)}
    keys = models_of(store, project)
    return [key for key in keys if key == ORIGINAL or key in newest.values() or (key == ORACLE and not newest)]
