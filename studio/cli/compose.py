"""`compose`: several adapters as one, each with its weight."""

from __future__ import annotations

import math
from typing import Annotated

import typer
from rich.console import Console

from studio.cli.options import CommandError, get_project, open_store
from studio.cli.progress import WorkProgress
from studio.evaluation_checks import models_named
from studio.jobs import Runner, submit
from studio.records import Checkpoint, Project
from studio.store import NotFoundError, Store


def register(app: typer.Typer) -> None:
    app.command()(compose)


def compose(
    project: Annotated[str, typer.Argument(help="Name or id of the project.", show_default=False)],
    adapters: Annotated[
        list[str],
        typer.Argument(
            help="Name or id of a trained model, with =WEIGHT where it is not 1. One of another project about the "
            "same checkpoint is named by its id.",
            metavar="CHECKPOINT=WEIGHT...",
            show_default=False,
        ),
    ],
    name: Annotated[str, typer.Option(help="What to call the sum; empty: the names of its parts.")] = "",
) -> None:
    """Sum adapters of one checkpoint, each times its weight, into one more model of the project.

    LoRAs stay a LoRA, whose rank is the sum of theirs; with edited weights among them the sum is edited weights. A
    weight below 0 takes an adapter's change away.
    """
    settings, store = open_store()
    found = get_project(store, project)
    chosen = [_parsed(store, found, text) for text in adapters]
    config = {"parts": [{"checkpoint_id": one.id, "weight": weight} for one, weight in chosen], "name": name}
    job = submit(store, settings, "compose", found.id, config)
    with WorkProgress(Console()) as progress:
        job = progress.follow(Runner(store, settings, interval=0.5), job, f"Summing {len(chosen)} adapters")
    saved = store.get_checkpoint(job.result["checkpoint_id"])
    print(f"Checkpoint {saved.id} ({saved.name}): {saved.path}\nSHA-256 {saved.sha256}")


def _parsed(store: Store, project: Project, text: str) -> tuple[Checkpoint, float]:
    """A trained model and its weight, of "name=0.5", "name" or an id in the name's place."""
    if (whole := _find(store, project, text)) is not None:  # a name may hold a =
        return whole, 1.0
    name, _, number = text.rpartition("=")
    found = _find(store, project, name)
    if found is None:
        known = ", ".join(f"{one.name!r} ({one.id})" for one in store.list_checkpoints(project.id)) or "none yet"
        raise CommandError(f"There is no trained model {name or text!r}. Trained models: {known}.")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if weight == 0 or not math.isfinite(weight):
        raise CommandError(f"The weight of {name!r} is {number!r}. Write a number that is not 0, such as {name}=0.5.")
    return found, weight


def _find(store: Store, project: Project, text: str) -> Checkpoint | None:
    """By a name in the project, or by an id anywhere."""
    named = models_named(store.list_checkpoints(project.id), text)
    if len(named) > 1:
        ids = ", ".join(one.id for one in named)
        raise CommandError(f"{len(named)} trained models are named {text!r}; give one's id: {ids}.")
    try:
        return named[0] if named else store.get_checkpoint(text)
    except NotFoundError:
        return None
