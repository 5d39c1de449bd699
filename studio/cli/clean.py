"""`clean`: delete what nobody needs any more."""

from __future__ import annotations

from typing import Annotated

import typer

from studio.cleaning import delete, find_unused
from studio.cli.options import open_store


def register(app: typer.Typer) -> None:
    app.command()(clean)


def clean(
    days: Annotated[int, typer.Option(min=1, help="Only what is older than this many days.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
) -> None:
    """Delete pictures that no project refers to any more, such as Compare's, and old logs. Never anything in use."""
    settings, store = open_store()
    total = 0
    for unused in find_unused(store, settings, days):
        size = unused.bytes
        count = len(unused.files) if dry_run else delete(unused)
        total += size
        print(f"{count:>6} {unused.what}, {size / 1e6:.1f} MB")
    print(f"{'Would free' if dry_run else 'Freed'} {total / 1e6:.1f} MB of {settings.data}.")
