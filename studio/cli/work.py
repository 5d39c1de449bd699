"""`pairs`, `train` and `evaluate`: one job each, run in a child process and followed to its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from studio.cli.demo import show_report
from studio.cli.options import (
    CommandError,
    ProjectOption,
    config_options,
    find_project,
    get_project,
    open_store,
    table_console,
)
from studio.cli.progress import WorkProgress
from studio.configs import EvaluateConfig, PairsConfig
from studio.detector_configs import DETECTOR_CONFIGS
from studio.devices import Devices
from studio.evaluation_checks import model_ids, refuse_evaluation
from studio.groups import OPTION, too_few_groups
from studio.jobs import Runner, submit
from studio.launchers import HF_JOBS
from studio.launchers.hf_jobs import cost_words, machines
from studio.method_configs import METHOD_CONFIGS, method_title
from studio.presets import PRESETS, presets_for
from studio.projects import new_project
from studio.prompt_checks import check, prompts_of
from studio.prompt_files import read_prompts
from studio.prompt_presets import sword_pairs
from studio.prompts import CONCEPT
from studio.records import Job, JobKind, Project
from studio.room import fit_into, method_words, never_fits, plan_of, plan_words, refusal, time_of
from studio.settings import Settings
from studio.store import Store
from studio.training_configs import DuoConfig

PRESET_NAMES = "; ".join(f"{method}: {', '.join(map(repr, presets_for(method)))}" for method in METHOD_CONFIGS)
PresetOption = Annotated[str | None, typer.Option(help=f"Start from the values of a preset ({PRESET_NAMES}).")]


def register(app: typer.Typer) -> None:
    app.command()(pairs)
    train = typer.Typer(help="Train a method on a project's accepted pairs.", no_args_is_help=True)
    for method in METHOD_CONFIGS:
        train.command(method)(_training(method))
    app.add_typer(train, name="train")
    app.command()(evaluate)


@config_options(PairsConfig)
def pairs(
    project: ProjectOption,
    values: dict[str, Any],
    prompts: Annotated[
        Path | None,
        typer.Option(help="File of prompt pairs to add: .csv, .jsonl, or the DUO repository's config.json."),
    ] = None,
    sample_prompts: Annotated[
        int, typer.Option(min=0, help="Add this many of the embedded checkpoint's own prompt pairs.")
    ] = 0,
    concept: Annotated[str, typer.Option(help="Of a new project: what to forget, in words.")] = CONCEPT,
    checkpoint: Annotated[
        str, typer.Option(help="Of a new project: toybox, a folder, a .safetensors file, or owner/name@revision.")
    ] = "toybox",
    detector: Annotated[str, typer.Option(help=f"Of a new project: {', '.join(DETECTOR_CONFIGS)}.")] = "toybox",
) -> None:
    """Make a project's missing image pairs; a project that is not there yet is created."""
    settings, store = open_store()
    found = find_project(store, project)
    there = store.list_prompt_pairs(found.id) if found else []
    added = read_prompts(prompts, there) if prompts else []
    added += prompts_of(check(sword_pairs(sample_prompts), [*there, *added]))
    if found is None:
        made = new_project(project, concept, checkpoint, detector, others=store.list_projects())
        found = store.create_project(made)
    store.add_prompt_pairs(replace(pair, project_id=found.id) for pair in added)
    if prompts or sample_prompts:
        print(f"{len(added)} prompt pairs added; the project had {len(there)}.")
    job = _run(store, settings, "pairs", found, values, "Making pairs")
    print(f"{job.result['ready']} pairs are ready and {job.result['failed']} failed in project {found.id}.")
    for pair in store.list_image_pairs(found.id, "failed"):
        print(f"  failed: pair {pair.id} (seed {pair.seed}): {pair.reason}")


def _training(method: str) -> Any:
    """The command that trains one method, with its configuration's fields as options."""

    def train(
        project: ProjectOption,
        values: dict[str, Any],
        preset: PresetOption = None,
        name: Annotated[str | None, typer.Option(help="What to call the result.")] = None,
        processes: Annotated[
            int | None, typer.Option(min=1, help="Processes that train together, one a GPU. [DUO_STUDIO_PROCESSES]")
        ] = None,
        memory: Annotated[
            float | None,
            typer.Option(min=0, help="DUO: set its memory switches so that it fits into this. [10^9 bytes]"),
        ] = None,
        anyway: Annotated[
            bool, typer.Option("--anyway", help="Start although the estimate does not fit into the device's memory.")
        ] = False,
        where: Annotated[
            str | None, typer.Option(help="local, accelerate, or hf_jobs: Hugging Face Jobs. [DUO_STUDIO_LAUNCHER]")
        ] = None,
        accelerate_config: Annotated[
            Path | None, typer.Option(help="Of `accelerate launch`, for several machines. [DUO_STUDIO_ACCELERATE]")
        ] = None,
        flavor: Annotated[
            str | None, typer.Option(help="At Hugging Face: the machine; see `remote machines`. [DUO_STUDIO_HF_JOBS]")
        ] = None,
        timeout: Annotated[
            float | None, typer.Option(help="Minutes after which the training is ended. [none; at Hugging Face 240]")
        ] = None,
        namespace: Annotated[
            str | None, typer.Option(help="At Hugging Face: the organisation that pays. [the token's user]")
        ] = None,
    ) -> None:
        settings, store = open_store()
        if preset is not None and preset not in presets_for(method):
            raise CommandError(f"{method} has no preset {preset!r}; use one of: {', '.join(presets_for(method))}.")
        start = PRESETS[preset].values if preset else {}
        settled = {**start, **values}
        config: dict[str, Any] = {"method": method, "name": name or method_title(method), "config": settled}
        config |= {"processes": processes} if processes else {}
        found = get_project(store, project)
        if settled.get(OPTION) and (why := too_few_groups(store.accepted_groups(found.id))):
            raise CommandError(why)
        given = {"launcher": where, "config_file": accelerate_config, "flavor": flavor, "timeout_minutes": timeout,
                 "namespace": namespace}  # fmt: skip
        config["where"] = {name: value for name, value in given.items() if value is not None}
        if (where or settings.launcher) == HF_JOBS.name:
            print(cost_words(HF_JOBS.options(settings, config["where"]), machines()))
        else:
            config["config"] = _made_to_fit(store, settings, found, config, memory, anyway)
        job = _run(store, settings, "train", found, config, f"Training {config['name']}")
        saved = store.get_checkpoint(job.result["checkpoint_id"])
        print(f"Checkpoint {saved.id}: {saved.path}\nSHA-256 {saved.sha256}")

    train.__doc__ = (METHOD_CONFIGS[method].__doc__ or "").strip()
    return config_options(METHOD_CONFIGS[method])(train)


def _made_to_fit(
    store: Store, settings: Settings, project: Project, config: dict[str, Any], memory: float | None, anyway: bool
) -> dict[str, Any]:
    """The values of a training with its memory switches set as asked; says what it will need.

    Raises CommandError where it does not fit into the device's memory, unless it is to start anyway.
    """
    values = dict(config["config"])
    if config["method"] != "duo" and memory is not None:
        raise CommandError(f"--memory sets switches of duo; {config['method']} has none. Leave it out.")
    try:
        checked = METHOD_CONFIGS[config["method"]].model_validate(values)
    except ValidationError:
        return values  # refused with its reason where the job is submitted
    if not isinstance(checked, DuoConfig):
        time = time_of(store, settings, Devices(settings), project, checked, config["method"])
        print(method_words(config["method"], time))
        return values
    processes = int(config.get("processes") or settings.processes)
    devices = Devices(settings)
    plan = plan_of(store, settings, devices, project, checked, processes)
    if plan is None:
        print("No estimate of memory: the checkpoint is not on this machine yet, or its shape is not known.")
        return values
    if memory is not None:
        switches = fit_into(plan, memory * 1e9)
        if switches is None:
            raise CommandError(never_fits(plan, f"{memory:g} GB"))
        values |= switches
        plan = plan_of(store, settings, devices, project, DuoConfig.model_validate(values), processes) or plan
    print(plan_words(plan))
    if (why := refusal(plan)) and not anyway:
        options = " ".join(_flag(name, value) for name, value in plan.switches.items())
        raise CommandError(f"{why} {f'Add {options}, or ' if options else ''}start it with --anyway.")
    return values


def _flag(name: str, value: Any) -> str:
    """A setting as it is typed."""
    option = name.replace("_", "-")
    return f"--{option} {value}" if not isinstance(value, bool) else f"--{option}" if value else f"--no-{option}"


@config_options(EvaluateConfig, skip=("command",))
def evaluate(project: ProjectOption, values: dict[str, Any]) -> None:
    """Compare original and trained models on the same prompts and seeds, and write the report."""
    settings, store = open_store()
    owner = get_project(store, project)
    if "checkpoint_ids" in values:
        values["checkpoint_ids"] = model_ids(store, owner, values["checkpoint_ids"])
    refuse_evaluation(store, owner, values)
    job = _run(store, settings, "evaluate", owner, values, "Comparing models")
    show_report(store, job, table_console())


def _run(store: Store, settings: Settings, kind: JobKind, project: Project, config: dict[str, Any], title: str) -> Job:
    job = submit(store, settings, kind, project.id, config)
    with WorkProgress(Console()) as progress:
        return progress.follow(Runner(store, settings, interval=0.5), job, title)
