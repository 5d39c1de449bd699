"""`stopped`: pairs that somebody stopped since they may be illegal. For the owner of the studio."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table

from studio.cli.options import CommandError, get_project, open_store, table_console
from studio.records import PairStop
from studio.stopping import CONTACTS, NO_ADVICE, STEPS, lift_stop, purge_pair, trained_on

PairArgument = Annotated[str, typer.Argument(help="Id of the pair, as `stopped list` shows it.", metavar="PAIR")]
NameOption = Annotated[str, typer.Option("--by", help="Your name, for the audit log.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the audit log; kept for good.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Pairs that were stopped since they may be illegal: list, lift, purge.", no_args_is_help=True
    )
    group.command("list")(list_stopped)
    group.command("lift")(lift)
    group.command("purge")(purge)
    app.add_typer(group, name="stopped")


def list_stopped(
    project: Annotated[str, typer.Argument(help="Name or id of the project.", metavar="PROJECT")],
) -> None:
    """What was stopped, lifted and purged in a project, with who did it and why; never a picture."""
    _, store = open_store()
    found = get_project(store, project)
    table = Table("pair", "what", "by", "when", "reason", "models trained on it", box=None)
    for stop in store.list_stops(found.id):
        when = datetime.fromtimestamp(stop.created).isoformat(sep=" ", timespec="minutes")
        models = ", ".join(trained_on(store, found.id, stop.pair_id)) or "none"
        table.add_row(stop.pair_id, stop.action, stop.reviewer, when, stop.reason, models)
    table_console().print(table if table.row_count else "Nothing was stopped in this project.")
    if store.standing_stops(found.id):
        print("\nWhat to do:", *(f"- {step}" for step in STEPS), "\nFor suspected pictures of child abuse:", sep="\n")
        print(*(f"- {where}: {who} {address}".rstrip() for where, who, address in CONTACTS), f"\n{NO_ADVICE}", sep="\n")


def lift(pair: PairArgument, by: NameOption, reason: ReasonOption) -> None:
    """Show a stopped pair to everyone again, with the decisions it had."""
    settings, store = open_store()
    lift_stop(store, settings, PairStop("", pair, "lift", by, reason))
    hidden = ", but it stays hidden: another stopped pair shows one of its pictures" if store.is_stopped(pair) else ""
    print(f"The stop of pair {pair} is lifted{hidden}.")


def purge(
    pair: PairArgument,
    by: NameOption,
    reason: ReasonOption,
    confirm: Annotated[str, typer.Option("--confirm", help="The pair's id again: this cannot be undone.")],
) -> None:
    """Delete the files of a stopped pair for good. Ask first whom you reported it to: they may need them."""
    settings, store = open_store()
    if confirm != pair:
        raise CommandError(f"--confirm is {confirm!r}, not {pair!r}. Nothing was deleted.")
    count = purge_pair(store, settings, PairStop("", pair, "purge", by, reason))
    print(f"Deleted {count} files of pair {pair}. It stays hidden; the audit log keeps who deleted them, and why.")
