"""What is asked of a job, checked and made complete before it is queued: `submit`. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from studio.attack_configs import ATTACK_CONFIGS, AttackJobConfig, attack_config
from studio.config_base import Config, refusal
from studio.configs import JOB_CONFIGS, EvaluateConfig, SweepConfig
from studio.evaluation_checks import with_presets
from studio.groups import OPTION as GROUPED
from studio.hosting.roles import asker
from studio.launchers import Launcher, LaunchError, get_launcher
from studio.method_configs import METHOD_CONFIGS, method_title, sweepable
from studio.protocols import PROTOCOLS
from studio.records import ELSEWHERE, LIVE, Job, JobKind
from studio.settings import Settings
from studio.store import Store
from studio.stress_configs import STRESS_CONFIGS


class JobError(ValueError):
    """A job that cannot be submitted as asked; says which value is wrong and what is allowed."""


def submit(store: Store, settings: Settings, kind: JobKind, project_id: str, config: Mapping[str, Any]) -> Job:
    """Check the config, complete it with the defaults and queue the job.

    A "train" config is {"method": "duo", "name": "as shown", "config": {…}}; the others are their Config's fields. An
    attack's `values` come out complete: those of the budget, with what was given over them. A training's "where" is
    {"launcher": "hf_jobs", …}, with what `studio.launchers` has of it.
    """
    where = dict(config.get("where") or {})
    config = {name: value for name, value in config.items() if name != "where"}
    if kind == "train":
        method = config.get("method")
        if method not in METHOD_CONFIGS:
            raise JobError(f"There is no method {method!r}; use one of {', '.join(METHOD_CONFIGS)}.")
        given = config.get("config", {})
        effective = {"method": method, "name": config.get("name") or method}
        effective["config"] = _complete(METHOD_CONFIGS[method], given, f"Method {method}")
        effective |= _processes(settings, method, config, effective["config"])
    elif kind == "attack":
        effective = _attack(config)
    elif kind == "sweep":
        effective = _sweep(config, store.get_project(project_id).checkpoint)
    elif kind in STRESS_CONFIGS:
        effective = _complete(STRESS_CONFIGS[kind], config, f"Job {kind}")
    elif kind in JOB_CONFIGS:
        if kind in ("pairs", "evaluate") and settings.processes > 1:
            config = {"processes": settings.processes, **config}
        if kind == "pairs" and (config.get("redo") or config.get("retry_failed")):
            config = {**config, "processes": 1}  # a few pairs, each of which keeps its row
        if kind == "evaluate":
            config = with_presets(config, store.get_project(project_id).checkpoint)
        effective = _complete(JOB_CONFIGS[kind], config, f"Job {kind}")
    else:
        raise JobError(
            f"There is no kind of job {kind!r}; use train, attack, {', '.join((*JOB_CONFIGS, *STRESS_CONFIGS))}."
        )
    launcher, place = _placed(settings, kind, where, effective)
    settings.create_folders()
    asked_by = _within_quota(store, settings)
    return store.create_job(
        Job("", project_id, kind, effective, asked_by=asked_by, launcher=launcher.name, place=place)
    )


def _placed(
    settings: Settings, kind: JobKind, asked: Mapping[str, Any], effective: Mapping[str, Any]
) -> tuple[Launcher, dict[str, Any]]:
    """What starts the job, and what that keeps with it. Raises JobError."""
    several = effective.get("processes", 1) > 1
    default = settings.launcher if kind == "train" else "local"
    name = asked.get("launcher") or default
    if name == "local" and several:
        name = "accelerate"
    try:
        launcher = get_launcher(name)
        if launcher.name in ELSEWHERE and kind != "train":
            raise LaunchError(f"{launcher.title} takes trainings alone, no {kind!r}. Leave it out.")
        if kind != "train":  # what only trainings can share among machines
            settings = replace(settings, accelerate_config=None)
        return launcher, launcher.place(settings, effective, asked)
    except LaunchError as error:
        raise JobError(str(error)) from error


def _within_quota(store: Store, settings: Settings) -> str:
    """Who asks, where somebody signed in. Raises JobError where that user has too many jobs that have not ended."""
    viewer, most = asker.get(), settings.limits.jobs
    if viewer is None or not viewer.signed_in:
        return ""
    own = [job for job in store.list_jobs(states=(*LIVE, "queued")) if job.asked_by == viewer.name]
    if most and len(own) >= most:
        raise JobError(
            f"{viewer.name} has {len(own)} jobs that have not ended, and {most} are the most for one user. Wait for "
            "one of them, or stop it under Jobs."
        )
    return viewer.name


def _attack(config: Mapping[str, Any]) -> dict[str, Any]:
    """An attack's job with the attack's own configuration complete in it."""
    effective = _complete(AttackJobConfig, config, "Job attack")
    attack, budget = effective["attack"], effective["budget"]
    if attack not in ATTACK_CONFIGS:
        raise JobError(f"There is no attack {attack!r}; use one of {', '.join(ATTACK_CONFIGS)}.")
    start = attack_config(attack, budget).model_dump()
    values = _complete(ATTACK_CONFIGS[attack], {**start, **effective["values"]}, f"Attack {attack}")
    return {**effective, "values": values}


def _sweep(config: Mapping[str, Any], checkpoint: str) -> dict[str, Any]:
    """A sweep's job with both configurations complete in it; every value is checked now, not after an hour."""
    effective = _complete(SweepConfig, config, "Job sweep")
    method, parameter, what = effective["method"], effective["parameter"], f"Method {effective['method']}"
    if method not in METHOD_CONFIGS:
        raise JobError(f"There is no method {method!r}; use one of {', '.join(METHOD_CONFIGS)}.")
    known = sweepable(method)
    if parameter not in known:
        raise JobError(f"{what} has no value {parameter!r} to sweep over; use one of {', '.join(known)}.")
    if effective["config"].get(GROUPED):
        raise JobError(f"{GROUPED} trains several adapters a value. Turn it off, and sweep each group in a project.")
    values = [_complete(METHOD_CONFIGS[method], {**effective["config"], parameter: value}, what)[parameter]
              for value in effective["values"]]  # fmt: skip
    if len(set(values)) < len(values):
        raise JobError(f"{parameter} has a value twice: {', '.join(map(str, values))}. Leave one out.")
    own = {name: value for name, value in effective["config"].items() if name != parameter}
    complete = _complete(METHOD_CONFIGS[method], {**own, parameter: values[0]}, what)
    asked = effective["evaluation"]
    if (protocol := PROTOCOLS.get(asked.get("protocol", ""))) and protocol.attacks and not asked.get("incomplete"):
        raise JobError(
            f"“{protocol.title}” counts attacks, which cannot be run before a model is trained. Sweep with another "
            "protocol or with --incomplete; then attack the chosen model, and evaluate it alone."
        )
    start = {"seed_range": "sweep", **with_presets(asked, checkpoint)}
    evaluation = _complete(EvaluateConfig, start, "Evaluation of a sweep")
    name = effective["name"] or method_title(method)
    return {**effective, "name": name, "values": values, "config": complete, "evaluation": evaluation}


def _processes(
    settings: Settings, method: str, config: Mapping[str, Any], effective: Mapping[str, Any]
) -> dict[str, Any]:
    """How many processes train together, where it is more than one. Raises JobError."""
    count = int(config.get("processes") or (settings.processes if method == "duo" else 1))
    if effective.get("shard_base"):
        _check_sharing(count, effective)
    if count == 1:
        return {}
    if method != "duo":
        raise JobError(f"{count} processes cannot train {method} together, only duo: the others' losses do not split.")
    if effective["batch_size"] % count:
        raise JobError(
            f"batch_size {effective['batch_size']} cannot be dealt out to {count} processes. Use a multiple of {count}."
        )
    return {"processes": count}


def _check_sharing(count: int, effective: Mapping[str, Any]) -> None:
    """Raises JobError where a base cannot be shared: all processes take part in all that the network computes."""
    if count == 1:
        raise JobError(
            "shard_base shares the frozen base among several processes, but this training has one. Use 2 processes or "
            "more, one a GPU (--processes, or DUO_STUDIO_PROCESSES for the page), or turn shard_base off."
        )
    if effective["sample_every"]:
        raise JobError(
            f"sample_every is {effective['sample_every']}, but no sample pictures are drawn with a shared base "
            "(shard_base), which one process alone cannot ask. Set sample_every to 0."
        )


def _complete(cls: type[Config], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    try:
        return cls.model_validate(dict(given)).model_dump()
    except ValidationError as error:
        raise JobError(f"{what}: {refusal(error, cls.model_fields)}") from error
