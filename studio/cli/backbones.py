"""`backbones`: the published networks that detectors and measures need, and how to fetch one."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from studio.backbones import BACKBONES, fetch, find, get_backbone
from studio.cli.options import table_console


def register(app: typer.Typer) -> None:
    verbs = typer.Typer(help="Published networks that detectors and measures need.", no_args_is_help=True)
    verbs.command("list")(listed)
    verbs.command("fetch")(fetched)
    app.add_typer(verbs, name="backbones")


def listed() -> None:
    """Say which are on this machine, where, and what fetches the others."""
    table = Table("", "what for", "MB", "where", box=None, padding=(0, 2, 0, 0))
    for backbone in BACKBONES.values():
        path = find(backbone)
        where = str(path) if path else f"not here: {backbone.fetch_command}"
        table.add_row(backbone.key, backbone.serves, str(backbone.megabytes), Text(where))
    table_console().print(table)


def fetched(
    name: Annotated[str, typer.Argument(help=f"Which: {', '.join(BACKBONES)}.")],
) -> None:
    """Download one into the cache of the library that reads it. Nothing is fetched twice."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(get_backbone(name).title, total=None)
        path = fetch(name, lambda done, total: progress.update(task, completed=done, total=total or None))
    print(path)
