"""`clean`: delete what nobody needs any more."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from studio.cleaning import DAY, delete, find_unused
from studio.cli.options import open_store
from studio.store import Store


def register(app: typer.Typer) -> None:
    app.command()(clean)


def clean(
    days: Annotated[int, typer.Option(min=1, help="Only what is older than this many days.")] = 30,
    resumable: Annotated[
        bool,
        typer.Option(
            "--resumable",
            help="At Hugging Face, what stopped and failed trainings left too: resumed, they begin anew.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
) -> None:
    """Delete pictures that no project refers to any more, such as Compare's, old logs, and at Hugging Face the private
    repositories that trainings left. Never anything in use.
    """
    settings, store = open_store()
    total = 0
    for unused in find_unused(store, settings, days):
        size = unused.bytes
        count = len(unused.files) if dry_run else delete(unused)
        total += size
        print(f"{count:>6} {unused.what}, {size / 1e6:.1f} MB")
    print(f"{'Would free' if dry_run else 'Freed'} {total / 1e6:.1f} MB of {settings.data}.")
    _clean_hub(store, time.time() - days * DAY, resumable=resumable, dry_run=dry_run)


def _clean_hub(store: Store, before: float, *, resumable: bool, dry_run: bool) -> None:
    """Each repository of a training that ended before then; the hub is asked only where a row names one."""
    from studio.launchers.base import LaunchError
    from studio.launchers.hf_jobs import token_here
    from studio.launchers.leftovers import delete_leftover, find_leftovers

    if not any(job.is_final and job.place.get("repository") for job in store.list_jobs()):
        return
    try:
        token = token_here()
        for one in find_leftovers(store, token, before):
            days = (time.time() - (one.job.finished or 0)) / DAY
            what = f"{one.repository} of training {one.job.id}, {one.job.state} {days:.0f} days ago"
            if one.is_needed and not resumable:
                print(f"Kept {what}: it can be resumed. --resumable deletes it.")
                continue
            if not dry_run:
                delete_leftover(store, token, one)
            print(f"{'Would delete' if dry_run else 'Deleted'} {what}.")
    except LaunchError as error:
        print(f"The hub was not cleaned: {error}")
