"""The studio's verbs from a shell. Each verb loads what it needs when it runs, so that `--help` is quick.

What a person can put right is said in one line, with exit code 2; only a bug shows a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from pydantic import ValidationError

from studio.cli import (
    attack,
    backbones,
    backup,
    clean,
    compare,
    compose,
    demo,
    doctor,
    exchange,
    exporting,
    importing,
    jobs,
    projects,
    purging,
    remote,
    space,
    stopped,
    stress,
    sweep,
    users,
    work,
)
from studio.cli.options import JobStopped
from studio.config_base import refusal

app = typer.Typer(
    help="DUO Studio: make an image model forget one thing, and see what it still draws.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for register in (
    work.register,
    demo.register,
    attack.register,
    compare.register,
    compose.register,
    exchange.register,
    projects.register,
    stress.register,
    sweep.register,
    importing.register,
    exporting.register,
    jobs.register,
    backbones.register,
    backup.register,
    clean.register,
    purging.register,
    stopped.register,
    remote.register,
    space.register,
    users.register,
    doctor.register,
):
    register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code is 0, 1 (it failed), 2 (it cannot be done as asked) or 130 (stopped)."""
    try:
        app(arguments, prog_name="python -m studio")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except JobStopped as stopped:
        print(stopped, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        if (message := plain_words(error)) is None:
            raise
        print(f"Error: {message}", file=sys.stderr)
        return 2
    return 0


def plain_words(error: Exception) -> str | None:
    """The message of an error that a person can act on; None for a bug."""
    if isinstance(error, ValidationError):
        return refusal(error)
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror or error}{where}."
    ours = type(error).__module__.partition(".")[0] in ("studio", "models")
    return str(error) if ours else None
