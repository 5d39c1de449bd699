"""`purge`: delete a project's pictures for good, or say after how many days that is done by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from studio.cli.options import CommandError, get_project, open_store
from studio.purging import SCOPES, plan, purge, purge_expired
from studio.records import PurgeScope

WHICH = "; ".join(f"{name}: {words}" for name, words in SCOPES.items())


def register(app: typer.Typer) -> None:
    app.command("purge")(purge_pictures)


def purge_pictures(
    project: Annotated[str | None, typer.Argument(help="Name or id of the project.", metavar="[PROJECT]")] = None,
    which: Annotated[str, typer.Option(help=f"What to delete. {WHICH}.")] = "undecided",
    by: Annotated[str, typer.Option(help="Your name, for the audit log.")] = "",
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")] = "",
    confirm: Annotated[str, typer.Option(help="The project's name again: this cannot be undone.")] = "",
    keep_days: Annotated[
        int | None,
        typer.Option(min=0, max=36_500, help="Delete undecided and rejected pictures after so many days; 0: never."),
    ] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Delete what is over its projects' days, now.")] = False,
) -> None:
    """Delete a project's pictures. Without --confirm, only say how many and how large they are.

    Decisions, prompts, scores and the pictures' hashes stay, for the audit.
    """
    settings, store = open_store()
    if expired:
        for done in purge_expired(store, settings):
            name = store.get_project(done.project_id).name
            print(f"{name}: {done.pairs} pairs, {done.files} files, {done.bytes / 1e6:.1f} MB")
        return
    if project is None:
        raise CommandError("Name a project, or say --expired.")
    found = get_project(store, project)
    if keep_days is not None:
        store.update_project(found.id, retention_days=keep_days)
        print(f"Undecided and rejected pictures are deleted after {keep_days} days." if keep_days else "Kept for good.")
        return
    wanted = plan(store, settings, found.id, _scope(which))
    said = (
        f"{len(wanted.pairs)} pairs, {len(wanted.files)} files, {wanted.bytes / 1e6:.1f} MB of {SCOPES[wanted.scope]}"
    )
    shared = f" {wanted.shared} pictures stay, since something else shows them too." if wanted.shared else ""
    if not confirm:
        print(f"Would delete {said}.{shared} Delete them with --by NAME --confirm {found.name!r}.")
        return
    if confirm != found.name:
        raise CommandError(f"--confirm is {confirm!r}, not {found.name!r}. Nothing was deleted.")
    purge(store, settings, found.id, wanted, by, reason)
    print(f"Deleted {said}.{shared}")


def _scope(text: str) -> PurgeScope:
    if text not in SCOPES:
        raise CommandError(f"--which is {text!r}; use {', '.join(SCOPES)}.")
    return text
