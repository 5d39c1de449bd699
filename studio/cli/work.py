"""`pairs`, `train` and `evaluate`: one job each, run in a child process and followed to its end."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from models.specs import parse_reference
from studio.cli.demo import show_report
from studio.cli.options import (
    CommandError,
    ProjectOption,
    config_options,
    find_project,
    get_project,
    open_store,
)
from studio.cli.progress import WorkProgress
from studio.configs import DETECTOR_CONFIGS, METHOD_CONFIGS, EvaluateConfig, PairsConfig
from studio.jobs import Runner, submit
from studio.presets import PRESETS, presets_for
from studio.prompts import CONCEPT, first_seed, pair_prompts
from studio.records import Job, JobKind, Project, PromptPair
from studio.settings import Settings
from studio.store import Store

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
        typer.Option(help="CSV file of prompt pairs to add: columns unsafe, safe, and perhaps count, seed."),
    ] = None,
    sample_prompts: Annotated[
        int, typer.Option(min=0, help="Add this many of the embedded checkpoint's own prompt pairs.")
    ] = 0,
    concept: Annotated[str, typer.Option(help="Of a new project: what to forget, in words.")] = CONCEPT,
    checkpoint: Annotated[
        str, typer.Option(help="Of a new project: toybox, a folder, or owner/name@revision.")
    ] = "toybox",
    detector: Annotated[str, typer.Option(help=f"Of a new project: {', '.join(DETECTOR_CONFIGS)}.")] = "toybox",
) -> None:
    """Make a project's missing image pairs; a project that is not there yet is created."""
    settings, store = open_store()
    texts = read_prompts(prompts) if prompts else []
    found = find_project(store, project)
    if found is None:
        found = store.create_project(new_project(project, concept, checkpoint, detector))
    if sample_prompts:
        first = first_seed("pairs", 0)
        texts += [
            PromptPair("", "", p.unsafe, p.safe, 1, first + i) for i, p in enumerate(pair_prompts(sample_prompts, 0))
        ]
    store.add_prompt_pairs(PromptPair("", found.id, t.unsafe, t.safe, t.count, t.seed) for t in texts)
    job = _run(store, settings, "pairs", found, values, "Making pairs")
    print(f"{job.result['ready']} pairs are ready and {job.result['failed']} failed in project {found.id}.")
    for pair in store.list_image_pairs(found.id, "failed"):
        print(f"  failed: pair {pair.id} (seed {pair.seed}): {pair.reason}")


def new_project(name: str, concept: str, checkpoint: str, detector: str) -> Project:
    """A project whose detector looks for its concept, where it can look for several. Errors name what is wrong."""
    parse_reference(checkpoint)
    if detector not in DETECTOR_CONFIGS:
        raise CommandError(f"There is no detector {detector!r}; use {', '.join(DETECTOR_CONFIGS)}.")
    config = DETECTOR_CONFIGS[detector]
    settings = config.model_validate({"concept": concept} if "concept" in config.model_fields else {})
    return Project("", name, concept, checkpoint, detector, settings.model_dump())


def _training(method: str) -> Any:
    """The command that trains one method, with its configuration's fields as options."""

    def train(
        project: ProjectOption,
        values: dict[str, Any],
        preset: PresetOption = None,
        name: Annotated[str | None, typer.Option(help="What to call the result.")] = None,
    ) -> None:
        settings, store = open_store()
        if preset is not None and preset not in presets_for(method):
            raise CommandError(f"{method} has no preset {preset!r}; use one of: {', '.join(presets_for(method))}.")
        start = PRESETS[preset].values if preset else {}
        config = {"method": method, "name": name or method.upper(), "config": {**start, **values}}
        job = _run(store, settings, "train", get_project(store, project), config, f"Training {config['name']}")
        saved = store.get_checkpoint(job.result["checkpoint_id"])
        print(f"Checkpoint {saved.id}: {saved.path}\nSHA-256 {saved.sha256}")

    train.__doc__ = (METHOD_CONFIGS[method].__doc__ or "").strip()
    return config_options(METHOD_CONFIGS[method])(train)


@config_options(EvaluateConfig, skip=("command",))
def evaluate(project: ProjectOption, values: dict[str, Any]) -> None:
    """Compare original and trained models on the same prompts and seeds, and write the report."""
    settings, store = open_store()
    job = _run(store, settings, "evaluate", get_project(store, project), values, "Comparing models")
    show_report(store, job, Console())


def read_prompts(path: Path) -> list[PromptPair]:
    """The prompt pairs of a CSV file with a header; errors name the line."""
    found = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if missing := {"unsafe", "safe"} - set(rows.fieldnames or ()):
            raise CommandError(f"{path} has no column {', '.join(sorted(missing))}; its first line must name them.")
        for row in rows:
            try:
                count, seed = int(row.get("count") or 1), int(row.get("seed") or 0)
            except ValueError as error:
                raise CommandError(
                    f"{path}, line {rows.line_num}: {error}; count and seed are whole numbers."
                ) from None
            if not row["unsafe"] or not row["safe"] or count < 0:
                raise CommandError(f"{path}, line {rows.line_num}: needs an unsafe and a safe prompt, and count >= 0.")
            found.append(PromptPair("", "", row["unsafe"].strip(), row["safe"].strip(), count, seed))
    return found


def _run(store: Store, settings: Settings, kind: JobKind, project: Project, config: dict[str, Any], title: str) -> Job:
    job = submit(store, settings, kind, project.id, config)
    with WorkProgress(Console()) as progress:
        return progress.follow(Runner(store, settings, interval=0.5), job, title)
