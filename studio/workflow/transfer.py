"""Transfer: prompts that an attack found on some models, drawn by others, each on a seed it was not searched on.

A row a pair of models is written when its pictures are judged, so a stopped job goes on at the next pair. Where the
model that draws is the one it was found on, the attack's own row tells, and nothing is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from studio.attack_configs import AttackJobConfig
from studio.attacks.base import AttackInput, draw
from studio.attacks.embeddings import load_embedding
from studio.configs import SamplingConfig
from studio.prompts import first_seed
from studio.records import AttackRun, Job, Trial
from studio.refusal import refuse
from studio.stress_configs import TransferConfig
from studio.workflow.attack_judging import nearby
from studio.workflow.attack_material import FRESH_OFFSET, victims_of
from studio.workflow.context import JobContext, WorkflowError
from studio.workflow.lineup import Lineup, Victim


@dataclass(frozen=True)
class Source:
    """What was found on one model."""

    victim: str
    name: str
    sha256: str
    runs: list[AttackRun]


def transfer(context: JobContext) -> dict[str, Any]:
    """Fill the matrix: a row a model that prompts were found on, and each that draws them."""
    config = TransferConfig(**context.config)
    job = attack_of(context, config)
    sources = sources_of(context, config, job)
    attack = AttackJobConfig(**job.config)
    models = victims_of(context, attack.model_copy(update={"victims": config.models}))
    effective = config.model_copy(update={"attack_job": job.id, "models": [model.key for model in models]})
    context.save_effective(effective.model_dump())
    known = {(trial.condition, trial.victim) for trial in context.store.list_trials(context.project.id, context.job.id)}
    sampling = SamplingConfig(steps=attack.steps, guidance_scale=attack.guidance_scale, batch_size=config.batch_size)
    total = len(models) * len(sources)
    lineup = Lineup(context, len(sources), total)
    detector = context.load_detector()
    for number, model in enumerate(models):
        missing = [source for source in sources if (source.victim, model.key) not in known]
        if not missing:
            continue
        with lineup.ready(model, number) as victim:
            for place, source in enumerate(missing, len(sources) - len(missing)):
                words = f"{model.label} draws what was found on {source.name}"
                context.report(number * len(sources) + place, total, words)
                if source.sha256 == victim.sha256:
                    found = [run.fresh_first for run in source.runs]
                else:
                    found = drawn(context, victim, source, attack, sampling, detector.detect)
                context.store.add_trial(_trial(context, victim, source, found, attack, place))
    context.report(total, total, "done")
    return {"attack": job.config["attack"], "attack_job": job.id, "cells": total}


def attack_of(context: JobContext, config: TransferConfig) -> Job:
    """The attack whose prompts are drawn. Raises WorkflowError where there is none."""
    runs = context.store.list_attack_runs(context.project.id)
    named = config.attack_job or next((run.job_id for run in reversed(runs) if run.role == "attack"), "")
    job = next((one for one in context.store.list_jobs(context.project.id) if one.id == named), None)
    if job is None or job.kind != "attack":
        raise WorkflowError(
            f"There is no attack {named!r} in project {context.project.name!r} whose prompts could be drawn. Attack a "
            "model first, or name the job of an attack."
        )
    return job


def sources_of(context: JobContext, config: TransferConfig, job: Job) -> list[Source]:
    """What the attack found, by the model it was found on. Raises WorkflowError where that is nothing."""
    runs = [
        run
        for run in context.store.list_attack_runs(context.project.id, job.id)
        if run.role == "attack" and run.fresh_count and not run.refused and (run.success or not config.working)
    ]
    sources: dict[str, Source] = {}
    for run in runs:
        source = Source(run.victim, run.victim_name, run.victim_sha256, [])
        sources.setdefault(run.victim, source).runs.append(run)
    if not sources:
        which = "worked on the seed it was searched on" if config.working else "was drawn"
        raise WorkflowError(f"No prompt of the attack {job.id} {which}, so there is nothing to transfer.")
    return list(sources.values())


def drawn(
    context: JobContext, victim: Victim, source: Source, attack: AttackJobConfig, sampling: SamplingConfig, detect: Any
) -> list[bool]:
    """Whether the model shows the concept under each found prompt, on its first fresh seed."""
    inputs, seeds = [], []
    for run in source.runs:
        seed = fresh_seed(run, attack)
        one = input_of(context, victim, run)
        inputs.append(nearby(victim.bundle, one, seed))
        seeds.append(seed if one.seed is None else one.seed)
    images = draw(victim.bundle, inputs, seeds, sampling)
    return [detection.found for detection in detect(images)]


def input_of(context: JobContext, victim: Victim, run: AttackRun) -> AttackInput:
    """What was found, as this model takes it. Raises WorkflowError where the prompt is not drawn any more."""
    if (reason := refuse(run.found_prompt)) is not None:
        raise WorkflowError(f"{reason} It was found by the attack {run.job_id}; its prompts are not drawn.")
    if run.embedding:
        return load_embedding(context.settings.embeddings, run.embedding, run.found_prompt, victim.bundle)
    return AttackInput(run.found_prompt)


def fresh_seed(run: AttackRun, attack: AttackJobConfig) -> int:
    """The first seed that the attack judged this prompt on and did not search on; see `questions_of`."""
    start = first_seed("attack", attack.seed)
    return start + FRESH_OFFSET + (run.seed - start) * attack.fresh


def _trial(
    context: JobContext, victim: Victim, source: Source, found: list[bool], attack: AttackJobConfig, place: int
) -> Trial:
    return Trial(
        id="",
        project_id=context.project.id,
        job_id=context.job.id,
        condition=source.victim,
        victim=victim.model.key,
        victim_name=victim.model.label,
        victim_sha256=victim.sha256,
        found=sum(found),
        n=len(found),
        facts={"title": source.name, "attack": attack.attack, "order": place},
    )
