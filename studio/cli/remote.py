"""`remote`: a training on another machine, whoever started that. Hugging Face Jobs use `remote run` too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from studio.cli.options import CommandError, open_store
from studio.settings import Settings

JobArgument = Annotated[str, typer.Argument(help="The training's id.", metavar="JOB")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Do a training on another machine, and take its results.", no_args_is_help=True)
    group.command("pack")(pack_training)
    group.command("run")(run)
    group.command("take")(take)
    group.command("machines")(list_machines)
    app.add_typer(group, name="remote")


def pack_training(
    job_id: JobArgument,
    folder: Annotated[Path, typer.Argument(help="Where its inputs go.", metavar="FOLDER")],
) -> None:
    """Write the inputs of a stopped, failed or waiting training into a folder, for `remote run` on another machine."""
    import shutil

    from studio.launchers.far import INPUTS
    from studio.launchers.parcel import beside, pack

    settings, store = open_store()
    job = store.get_job(job_id)
    if job.state not in ("queued", "stopped", "failed"):
        raise CommandError(f"Job {job.id} is {job.state}; only a waiting, stopped or failed training can be packed.")
    pack(store, settings, job, folder / INPUTS)
    for name, file in beside(settings, store.get_project(job.project_id).checkpoint).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
    print(f"{folder} holds the inputs of {job.id}. On the other machine: python -m studio remote run --inputs {folder}")


def run(
    inputs: Annotated[Path | None, typer.Option(help="Folder that `remote pack` wrote.", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="Folder for its state and results.")] = Path("remote-out"),
    repository: Annotated[str, typer.Option(help="Of a training at Hugging Face: its repository.")] = "",
    revision: Annotated[str, typer.Option(help="The commit of its inputs.")] = "main",
    accelerate_config: Annotated[
        Path | None, typer.Option(help="Of `accelerate launch`, for several machines.", show_default=False)
    ] = None,
    machine_rank: Annotated[int, typer.Option(min=0, help="Which of them this is; 0 gets the results.")] = 0,
) -> None:
    """Do a training in an empty studio of this machine, and hand its results over."""
    from studio.launchers.far import InFolder, OnTheHub, Place, follow, work

    settings = Settings.from_environment()
    if settings.database.exists():
        raise CommandError(
            f"{settings.data} is a studio already; a training from elsewhere is done in an empty one. Set "
            "DUO_STUDIO_DATA to a new folder."
        )
    place: Place
    if repository:
        from studio.launchers.depot import Depot
        from studio.launchers.hf_jobs import token_here

        place = OnTheHub(Depot(repository, token_here()), revision)
    elif inputs is not None:
        place = InFolder(inputs, out)
    else:
        raise CommandError("There is nothing to do: give --inputs FOLDER, or --repository.")
    settings.data.mkdir(parents=True, exist_ok=True)
    if accelerate_config is not None:
        settings = replace(settings, accelerate_config=accelerate_config.expanduser().absolute())
    folder = settings.data / "remote"
    if machine_rank:
        if code := follow(settings, place, folder, machine_rank, say):
            raise CommandError(f"This machine's part of the training ended with exit code {code}.")
        return
    job = work(settings, place, folder, say)
    if job.state != "done":
        raise CommandError(f"The training is {job.state}. {job.error}".rstrip())


def say(line: str) -> None:
    """At once, whatever reads it."""
    print(line, flush=True)


def take(
    job_id: JobArgument,
    folder: Annotated[Path, typer.Argument(help="The --out folder of `remote run`.", metavar="FOLDER")],
) -> None:
    """Take the results of a training that was done on another machine, checked, as if it had been done here."""
    from studio.launchers.far import RESULTS
    from studio.launchers.results import take_results

    settings, store = open_store()
    job = store.get_job(job_id)
    if job.state not in ("stopped", "failed"):
        raise CommandError(f"Job {job.id} is {job.state}; results are taken of a stopped or failed training.")
    if not (folder / RESULTS).is_dir():
        raise CommandError(f"{folder} has no {RESULTS}: the training there is not done. Run it again, it goes on.")
    result = take_results(store, settings, job, lambda name: folder / RESULTS / name)
    store.update_job(job.id, state="done", result=result, error="", message="Done on another machine")
    print(f"Checkpoint {result['checkpoint_id']}: SHA-256 {result['sha256']}")


def list_machines() -> None:
    """The machines of Hugging Face Jobs and what they cost, as Hugging Face says now."""
    from studio.launchers.hf_jobs import PRICES, machines

    found = machines()
    if not found:
        raise CommandError(f"Hugging Face could not be asked. Its prices are at {PRICES}.")
    for machine in found:
        price = "price unknown" if machine.dollars_an_hour is None else f"${machine.dollars_an_hour:.2f} an hour"
        print(f"{machine.flavor:20} {price:>20}  {machine.facts}")
