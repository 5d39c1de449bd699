"""`export`: a trained model as files for other programs, and to the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from models.export_files import NO_LORA, gigabytes, refuse_existing
from studio.cli.options import CommandError, config_options, open_store
from studio.cli.progress import WorkProgress
from studio.configs import ExportConfig
from studio.evaluation_checks import models_named
from studio.jobs import Runner, submit
from studio.records import Checkpoint
from studio.store import Store


def register(app: typer.Typer) -> None:
    app.command("export")(export)


@config_options(ExportConfig, skip=("checkpoint_id",))
def export(
    checkpoint: Annotated[str, typer.Argument(help="Id of a trained model, or its name.", show_default=False)],
    values: dict[str, Any],
) -> None:
    """Write a trained model for other programs, with its model card; merged into the weights unless asked otherwise.

    --push sends it to the Hugging Face hub too, with the token of `hf auth login` or HF_TOKEN.
    """
    settings, store = open_store()
    found = find_checkpoint(store, checkpoint)
    if found.kind != "lora" and values.get("format") in ("lora", "kohya"):
        raise CommandError(f"{found.name}: {NO_LORA}")
    if "out" in values:
        folder = Path(values["out"]).expanduser().absolute()
        refuse_existing(folder)
        values = {**values, "out": str(folder)}
    job = submit(store, settings, "export", found.project_id, {**values, "checkpoint_id": found.id})
    with WorkProgress(Console()) as progress:
        job = progress.follow(Runner(store, settings, interval=0.5), job, f"Exporting {found.name}")
    print(f"{gigabytes(job.result['bytes'])} in {settings.data / job.result['folder']}")
    if job.result["url"]:
        print(job.result["url"])


def find_checkpoint(store: Store, text: str) -> Checkpoint:
    """A trained model by id, or by a name that only one has. Raises CommandError."""
    every = [one for project in store.list_projects() for one in store.list_checkpoints(project.id)]
    found = models_named(every, text)
    if len(found) == 1:
        return found[0]
    if found:
        raise CommandError(f"{len(found)} models are named {text!r}; give one's id: {', '.join(c.id for c in found)}.")
    known = ", ".join(f"{one.name!r} ({one.id})" for one in every) or "none yet; `studio train` makes one"
    raise CommandError(f"There is no trained model {text!r}. Models: {known}.")
