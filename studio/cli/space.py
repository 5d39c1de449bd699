"""`space`: this folder as a Hugging Face Space; code and settings go there, data never."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from studio.cli.options import CommandError, open_store
from studio.spaces import Wanted, create, is_sensitive, space_files, sync

NameArgument = Annotated[str, typer.Argument(help="The Space, owner/name.", metavar="OWNER/NAME")]
HardwareOption = Annotated[str, typer.Option(help="cpu-basic, zero-a10g (ZeroGPU), t4-small, a10g-small …")]
SdkOption = Annotated[
    str, typer.Option(help="gradio, or docker for the Dockerfile; unless you say, what is there, or gradio.")
]
SecretOption = Annotated[
    list[str], typer.Option("--secret", help="Name of a variable that is set here; its value becomes a secret there.")
]
SensitiveOption = Annotated[
    bool | None, typer.Option("--sensitive/--not-sensitive", help="Tag not-for-all-audiences; else by your projects.")
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="This folder as a Hugging Face Space. Data never go there.", no_args_is_help=True)
    group.command("create")(create_space)
    group.command("sync")(sync_space)
    app.add_typer(group, name="space")


def create_space(
    name: NameArgument,
    sdk: SdkOption = "",
    hardware: HardwareOption = "",
    private: Annotated[bool, typer.Option("--private/--public", help="Who may see it.")] = True,
    secret: SecretOption = [],  # noqa: B006 (typer's way)
    sensitive: SensitiveOption = None,
) -> None:
    """Make a Space with its secrets and hardware, and fill it with this folder's code."""
    _run(create, name, sdk, hardware, secret, sensitive, private=private)


def sync_space(
    name: NameArgument,
    sdk: SdkOption = "",
    hardware: HardwareOption = "",
    secret: SecretOption = [],  # noqa: B006 (typer's way)
    sensitive: SensitiveOption = None,
) -> None:
    """Bring a Space to this folder's state in one commit."""
    _run(sync, name, sdk, hardware, secret, sensitive)


def _run(
    work: Any, name: str, sdk: str, hardware: str, secrets: list[str], sensitive: bool | None, *, private: bool = True
) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise CommandError(f"The Space is {name!r}; it must be owner/name.")
    if sdk not in ("", "gradio", "docker"):
        raise CommandError(f"--sdk is {sdk!r}; use gradio or docker.")
    settings, store = open_store()
    tagged = is_sensitive(store) if sensitive is None else sensitive
    wanted = Wanted(name, sdk, hardware, private, tagged, tuple(secrets))  # type: ignore[arg-type]
    url = work(wanted, settings)
    print(f"{len(space_files(settings))} files are at {url}{', tagged not-for-all-audiences' if tagged else ''}.")
