"""What stands in the way of an evaluation, found before its job is queued: files, models, networks. Torch-free.

The worker looks again, since files and rows may change while a job waits, and finds what only a loaded network tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.specs import parse_reference
from studio.backbones import BACKBONES, NETWORK_OF, find
from studio.configs import EvaluateConfig
from studio.protocols import PROTOCOLS, Protocol, lacks, preset_of
from studio.records import Checkpoint, Job, Project
from studio.store import Store


class EvaluationError(ValueError):
    """An evaluation that cannot be made as asked; says what is missing and how to get it."""


def refuse_evaluation(store: Store, project: Project, asked: Mapping[str, Any], *, to_train: bool = False) -> None:
    """Raises EvaluationError where it is known now that the job would fail; `to_train`: its models are still to come.

    `asked` are fields of EvaluateConfig, complete or not. What breaks its bounds is left to the submission.
    """
    try:
        config = EvaluateConfig(**with_presets(asked, project.checkpoint))
    except ValueError:
        return
    models = [] if to_train else models_of(store, project, config)
    if found := [*_of_any(store, project, config, models), *_of_networks(project, config)]:
        raise EvaluationError("\n".join(found))
    protocol = PROTOCOLS.get(config.protocol)
    if protocol and not config.incomplete and not (to_train and protocol.attacks):
        jobs = store.list_jobs(project.id)
        if missing := [*lacks(protocol, config, project, jobs, models), *missing_networks(protocol)]:
            raise EvaluationError(lacking(protocol, missing))


def with_presets(asked: Mapping[str, Any], checkpoint: str) -> dict[str, Any]:
    """The fields with those of the protocol, and files by their whole paths: a worker runs in another folder."""
    files = {name: asked[name] for name in ("prompts", "unrelated") if isinstance(asked.get(name), list)}
    whole = {name: [str(Path(str(one)).expanduser().absolute()) for one in paths] for name, paths in files.items()}
    return {**preset_of(str(asked.get("protocol", "")), checkpoint), **asked, **whole}


def models_of(store: Store, project: Project, config: EvaluateConfig) -> list[Checkpoint]:
    """The trained models that are compared. Raises EvaluationError for one that is not there."""
    if not config.checkpoint_ids:
        return store.list_checkpoints(project.id)
    there = {one.id: one for other in store.list_projects() for one in store.list_checkpoints(other.id)}
    for model in config.checkpoint_ids:
        if model not in there:
            raise EvaluationError(
                f"There is no trained model {model!r}. Project {project.name!r} has {named(store, project)}."
            )
    return [there[model] for model in config.checkpoint_ids]


def models_named(models: Iterable[Checkpoint], text: str) -> list[Checkpoint]:
    """The models of that id, else of that name, else of that name in capitals or not."""
    every = list(models)
    found = [one for one in every if one.id == text] or [one for one in every if one.name == text]
    return found or [one for one in every if one.name.casefold() == text.casefold()]


def model_ids(store: Store, project: Project, texts: Sequence[str]) -> list[str]:
    """The ids of models that were named by id or by a name that one alone has. Raises EvaluationError."""
    found = []
    for text in texts:
        alike = [one.id for one in models_named(store.list_checkpoints(project.id), text)]
        if len(alike) > 1:
            raise EvaluationError(f"{len(alike)} models are named {text!r}; give one's id: {', '.join(alike)}.")
        found += alike or [text]
    return found


def named(store: Store, project: Project) -> str:
    return ", ".join(f"{one.name!r} ({one.id})" for one in store.list_checkpoints(project.id)) or "none yet"


def lacking(protocol: Protocol, missing: Iterable[str]) -> str:
    """What a protocol lacks, in words."""
    listed = list(missing)
    lines = "\n".join(f"- {one}" for one in listed)
    return (
        f"“{protocol.title}” lacks {len(listed)} of what it needs. Get it, or measure the rest alone (--incomplete), "
        f"which the report then says.\n{lines}"
    )


def missing_networks(protocol: Protocol) -> list[str]:
    """What it measures with and this machine does not have."""
    measured = (*protocol.measures, protocol.distance)
    return [_missing(name) for name in measured if name in NETWORK_OF and find(BACKBONES[NETWORK_OF[name]]) is None]


def no_prompts(project: Project) -> str:
    return f"Project {project.name!r} has no prompts to compare models on; add prompt pairs."


def of_another(model: Checkpoint, other: str, project: Project) -> str:
    """Why a model that is a change of checkpoint `other` is not compared in this project."""
    return (
        f"{model.name} ({model.id}) is a change of {other}, but project {project.name!r} is about "
        f"{project.checkpoint}. Compare it in a project about {other}."
    )


def without_protocol(paths: Sequence[str]) -> str:
    return (
        f"{paths[0]} is a file of a protocol's prompts, but no protocol is chosen. Choose one (--protocol), or leave "
        "the file out."
    )


def not_finished(project: Project, jobs: Iterable[Job], job_id: str) -> str:
    """Why what a job found cannot be drawn; "" where it can."""
    attacks = [job for job in jobs if job.kind == "attack"]
    job = next((one for one in attacks if one.id == job_id), None)
    if job is not None and job.state == "done":
        return ""
    finished = ", ".join(f"{one.id} ({one.config['attack']})" for one in attacks if one.state == "done")
    return (
        f"{job_id} is {'no attack' if job is None else f'an attack that is {job.state}'}, so there is nothing to draw. "
        f"Finished attacks of {project.name!r}: {finished or 'none yet; run one first'}."
    )


def _of_any(store: Store, project: Project, config: EvaluateConfig, models: Sequence[Checkpoint]) -> Iterable[str]:
    files = [*config.prompts, *config.unrelated]
    if files and not config.protocol:
        yield without_protocol(files)
    jobs = store.list_jobs(project.id)
    yield from filter(None, (not_finished(project, jobs, job_id) for job_id in config.attacks))
    for model in models:
        other = store.get_project(model.project_id).checkpoint
        if other != project.checkpoint:
            yield of_another(model, other, project)
    embedded = parse_reference(project.checkpoint).kind == "toybox"
    if not config.protocol and not embedded and not store.list_prompt_pairs(project.id):
        yield no_prompts(project)


def _of_networks(project: Project, config: EvaluateConfig) -> Iterable[str]:
    """Of the detector, and of measures that were asked for by name; beside a protocol these may be left out."""
    own = project.detector_settings.get("model")
    if project.detector in NETWORK_OF and not own and find(BACKBONES[NETWORK_OF[project.detector]]) is None:
        yield f"The project's detector {project.detector} cannot judge here. {_missing(project.detector)}"
    if config.protocol and config.incomplete:
        return
    for name in config.measures:
        if find(BACKBONES[NETWORK_OF[name]]) is None:
            yield f"{name} cannot be measured here. {_missing(name)}"


def _missing(name: str) -> str:
    backbone = BACKBONES[NETWORK_OF[name]]
    return (
        f"{backbone.title} ({backbone.megabytes} MB) is not on this machine; fetch it with network: press its button "
        f"under More settings in Report, or run {backbone.fetch_command}"
    )
