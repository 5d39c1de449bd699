"""`import`: weights that another program made, as a checkpoint of a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from studio.cli.options import CommandError, ProjectOption, get_project, open_store
from studio.cli.progress import WorkProgress
from studio.jobs import Runner, submit
from studio.method_configs import METHOD_CONFIGS


def register(app: typer.Typer) -> None:
    app.command("import")(import_file)


def import_file(
    project: ProjectOption,
    file: Annotated[
        Path, typer.Argument(help=".safetensors, a diffusers folder, or a pickled state dict.", show_default=False)
    ],
    method: Annotated[str, typer.Option(help=f"Which method made it: {', '.join(METHOD_CONFIGS)}.")],
    name: Annotated[str, typer.Option(help="What to call it; empty: its method and file.")] = "",
    transport: Annotated[bool, typer.Option(help="SPM: let its strength follow the prompt.")] = True,
) -> None:
    """Add released weights of a method (edited networks, LoRAs) to a project, to compare them with what is trained
    here.

    A pickled file (.pt, .bin, .ckpt) is first turned into safetensors by a process of its own, which reads tensors and
    refuses everything else.
    """
    if method not in METHOD_CONFIGS:
        raise CommandError(f"There is no method {method!r}; use one of {', '.join(METHOD_CONFIGS)}.")
    if not file.exists():
        raise CommandError(f"{file} does not exist. Check the path.")
    settings, store = open_store()
    found = get_project(store, project)
    config = {"path": str(file.resolve()), "method": method, "name": name, "transport": transport}
    job = submit(store, settings, "import", found.id, config)
    with WorkProgress(Console()) as progress:
        job = progress.follow(Runner(store, settings, interval=0.5), job, f"Importing {file.name}")
    saved = store.get_checkpoint(job.result["checkpoint_id"])
    print(f"Checkpoint {saved.id} ({saved.name}): {saved.path}\nSHA-256 {saved.sha256}")
