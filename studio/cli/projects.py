"""`projects`: the list, and whole projects in and out as archives."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from studio.archive import export_project, import_project
from studio.cli.options import CommandError, get_project, open_store, table_console
from studio.sample import open_sample

ProjectArgument = Annotated[str, typer.Argument(help="Name or id of the project.", metavar="PROJECT")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="List projects; take one out as an archive, or in.", no_args_is_help=True)
    group.command("list")(list_projects)
    group.command("export")(export)
    group.command("import")(import_archive)
    group.command("sample")(sample)
    app.add_typer(group, name="projects")


def list_projects() -> None:
    """All projects, oldest first."""
    _, store = open_store()
    table = Table(
        Column("project", no_wrap=True), "name", "concept", "checkpoint", "detector", "pairs", "made", box=None
    )
    for project in store.list_projects():
        counts = store.pair_counts(project.id)
        pairs = f"{counts.ready} ready, {counts.accepted} accepted"
        made = datetime.fromtimestamp(project.created).isoformat(sep=" ", timespec="minutes")
        table.add_row(project.id, project.name, project.concept, project.checkpoint, project.detector, pairs, made)
    table_console().print(table if table.row_count else "No projects yet.")


def export(
    project: ProjectArgument,
    file: Annotated[Path, typer.Argument(help="The archive to write, say sword.zip.", metavar="FILE")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a project with all its pictures, decisions, trained models and reports into one file."""
    settings, store = open_store()
    found = get_project(store, project)
    if file.exists() and not force:
        raise CommandError(f"{file} is there already. Name another file, or say --force.")
    size = export_project(store, settings, found.id, file)
    print(f"{file}: {size / 2**20:.1f} MiB")


def import_archive(
    file: Annotated[Path, typer.Argument(help="An archive that `projects export` wrote.", metavar="FILE")],
) -> None:
    """Add a project from an archive. Its pictures and adapters must have the hashes that it names."""
    settings, store = open_store()
    project = import_project(store, settings, file)
    print(f"Project {project.name!r} ({project.id}) is here now.")


def sample() -> None:
    """Unpack the finished sample project that is shipped."""
    settings, store = open_store()
    project = open_sample(store, settings)
    print(f"Project {project.name!r} ({project.id}) is here; see it with: python -m studio serve")
