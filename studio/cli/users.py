"""`users`: who may sign in to the page, and as what."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from studio.cli.options import CommandError, table_console
from studio.hosting.users import Users
from studio.settings import Settings

NameArgument = Annotated[str, typer.Argument(help="Name of the user.", metavar="NAME")]
RoleOption = Annotated[str, typer.Option(help="viewer (looks, draws), reviewer (judges too) or owner (all).")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Who may sign in to the page; with anybody in it, everybody must.", no_args_is_help=True)
    group.command("list")(list_users)
    group.command("add")(add)
    group.command("remove")(remove)
    app.add_typer(group, name="users")


def list_users() -> None:
    """All users with their roles."""
    users = _users()
    table = Table("name", "role", "signs in by", box=None)
    for user in users.all():
        ways = ["password"] * bool(user.hash) + ["Hugging Face"] * user.hugging_face
        table.add_row(user.name, user.role, " or ".join(ways))
    table_console().print(table if table.row_count else "Nobody: the page asks for no sign-in.")


def add(
    name: NameArgument,
    role: RoleOption = "reviewer",
    hugging_face: Annotated[
        bool, typer.Option("--hugging-face", help="NAME signs in at Hugging Face, and needs no password here.")
    ] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
    ] = False,
) -> None:
    """Add a user, or change one's role and password, which ends what was signed in before."""
    users = _users()
    password = ""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif not hugging_face:
        if not sys.stdin.isatty():
            raise CommandError("There is no terminal to ask for the password. Use --password-stdin or --hugging-face.")
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    user = users.add(name, role, password, hugging_face=hugging_face)
    print(f"{user.name} is {user.role}; kept in {users.path}")


def remove(name: NameArgument) -> None:
    """Remove a user, who is signed out at once; decisions made under the name stay."""
    users = _users()
    users.remove(name)
    rest = "" if users.all() else " Nobody is left: the page asks for no sign-in now."
    print(f"{name} was removed.{rest}")


def _users() -> Users:
    return Users(Settings.from_environment().users)
