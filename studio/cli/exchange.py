"""`bring` and `take`: people's own pairs in, the curated ones out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from models.files import write_atomically
from studio.cli.options import CommandError, ProjectOption, config_options, get_project, open_store
from studio.cli.progress import WorkProgress
from studio.configs import BringConfig, PushConfig
from studio.csv_files import csv_text
from studio.exchange.hub import has_token
from studio.exchange.taking import WHICH, Form, Which, folder_sink, select, take, zip_sink
from studio.jobs import Runner, submit

SHOWN = 20
WORDS = {
    "taken": "taken",
    "known": "there already",
    "tie": "ties left out",
    "unlabelled": "without a label left out",
    "refused": "not taken",
}


def register(app: typer.Typer) -> None:
    app.command()(bring)
    app.command("take")(take_out)


@config_options(BringConfig, skip=("path", "name"))
def bring(
    project: ProjectOption,
    path: Annotated[Path, typer.Argument(help="A folder, a .zip or a .parquet file.", show_default=False)],
    values: dict[str, Any],
    refused: Annotated[
        Path | None, typer.Option(help="Write each file that was not taken, with the reason, to this CSV file.")
    ] = None,
) -> None:
    """Bring own pairs of pictures into a project: unsafe/a.png and safe/a.png, or as a metadata file says.

    Also Pick-a-Pic's parquet files, and unsafe pictures alone, which get a twin (--make-twins).
    """
    if not path.exists():
        raise CommandError(f"{path} does not exist. Check the path.")
    settings, store = open_store()
    found = get_project(store, project)
    config = {**values, "path": str(path.resolve()), "name": path.name}
    job = submit(store, settings, "bring", found.id, config)
    with WorkProgress(Console()) as progress:
        job = progress.follow(Runner(store, settings, interval=0.5), job, f"Bringing {path.name}")
    print(
        ", ".join(f"{job.result[key]} {words}" for key, words in WORDS.items() if key in job.result) or "Nothing there"
    )
    wrong = store.brought_refusals(job.id)
    for name, reason in wrong[:SHOWN]:
        print(f"  {name}: {reason}")
    if len(wrong) > SHOWN:
        print(f"  … and {len(wrong) - SHOWN} more; --refused FILE.csv writes them all.")
    if refused is not None:
        write_atomically(refused, csv_text(("file", "reason"), wrong).encode())


def take_out(
    project: ProjectOption,
    to: Annotated[
        Path | None, typer.Argument(help="A new folder, or a .zip file.", metavar="[FOLDER]", show_default=False)
    ] = None,
    form: Annotated[str, typer.Option(help="imagefolder or parquet.")] = "imagefolder",
    which: Annotated[str, typer.Option(help=f"Which pairs: {', '.join(WHICH)}.")] = "accepted",
    names: Annotated[
        bool | None,
        typer.Option(help="Reviewers and files by their names. Left out, a folder has them and the Hub does not."),
    ] = None,
    push: Annotated[str, typer.Option(help="Push to this dataset on the Hugging Face Hub, owner/name.")] = "",
    public: Annotated[bool, typer.Option("--public", help="With --push: everybody may see the dataset.")] = False,
) -> None:
    """Write the curated pairs with their decisions and the audit log into a folder or zip, or push them to the Hub."""
    if form not in ("imagefolder", "parquet"):
        raise CommandError(f"--form is {form!r}; use imagefolder or parquet.")
    if (to is None) == (not push):
        raise CommandError("Name a folder, or a dataset with --push; one of the two.")
    settings, store = open_store()
    found = get_project(store, project)
    if push:
        if not has_token():
            raise CommandError("There is no Hugging Face token on this machine. Run `hf auth login`, or set HF_TOKEN.")
        config = PushConfig.model_validate(
            {"repository": push, "which": which, "names": bool(names), "public": public}
        ).model_dump()
        job = submit(store, settings, "push", found.id, config)
        with WorkProgress(Console()) as progress:
            job = progress.follow(Runner(store, settings, interval=0.5), job, f"Pushing to {push}")
        print(f"{job.result['pairs']} pairs are at {job.result['url']}")
        return
    assert to is not None
    named = names is not False
    selection = select(store, found.id, _which(which), names=named)
    if to.suffix.lower() == ".zip" and to.exists():
        raise CommandError(f"{to} is there already. Name another file.")
    with zip_sink(to) if to.suffix.lower() == ".zip" else folder_sink(to) as sink:
        count = take(selection, settings, sink, _form(form), names=named)
    print(f"{count} pairs are in {to}, with {len(selection.history)} decisions in verdicts.jsonl.")


def _which(text: str) -> Which:
    return text  # type: ignore[return-value]  # select refuses what is none


def _form(text: str) -> Form:
    return "parquet" if text == "parquet" else "imagefolder"
