"""`backup`: a copy of the database now, and which there are."""

from __future__ import annotations

import typer

from studio.backups import KEPT, back_up, list_backups
from studio.cli.options import open_store


def register(app: typer.Typer) -> None:
    app.command()(backup)


def backup() -> None:
    """Copy the database, with all decisions, while the page may be open. Files of projects: see `projects export`."""
    settings, _ = open_store()
    path = back_up(settings)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB. Kept: {len(list_backups(settings))} of at most {KEPT}.")
