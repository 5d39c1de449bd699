"""Options made from a configuration's fields, and what all verbs need: settings, store, a project by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.console import Console

from studio.config_base import Config
from studio.records import Project
from studio.settings import Settings
from studio.store import Store

ProjectOption = Annotated[str, typer.Option("--project", "-p", help="Name or id of the project.")]


UNBOUNDED = 10_000  # columns
SHORTEST_ID = 4  # characters by which a project is found


class CommandError(ValueError):
    """A verb that cannot do what was asked; says why and what to do."""


class JobStopped(CommandError):  # noqa: N818 (a stop is no error)
    """The job that a verb followed was stopped; says how to go on."""


def config_options(config: type[Config], skip: Collection[str] = ()) -> Callable[[Callable[..., None]], Any]:
    """Give a command one option a field of `config`; its argument `values` gets those that were typed.

    Help, unit, default and bounds come from the field. Bounds are checked where the job is submitted.
    """
    names = [name for name in config.model_fields if name not in skip]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        def command(**arguments: Any) -> None:
            typed = {name: arguments.pop(name) for name in names}
            function(**arguments, values={name: value for name, value in typed.items() if value not in (None, [])})

        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "values"]
        options = [_option(name, config) for name in names]
        command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in [*own, *options]}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return decorate


def _option(name: str, config: type[Config]) -> inspect.Parameter:
    field = config.model_fields[name]
    kind: Any = field.annotation
    if get_origin(kind) is list:  # typer knows no list of named things; where the job is submitted they are checked
        kind = list[str]
    typed = Annotated[kind | None, typer.Option(help=_help(field), show_default=False)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=typed)


def _help(field: FieldInfo) -> str:
    """Description, default, unit and bounds of a field: "AdamW learning rate. [0.001; above 0, at most 1]"."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    default = field.get_default(call_default_factory=True)
    shown = "none" if default in ([], "") else str(default)
    bounds = [f"{word} {limit}" for m in field.metadata for word, limit in _bounds(m)]
    facts = "; ".join(filter(None, [f"{shown} {extra.get('unit') or ''}".strip(), ", ".join(bounds)]))
    return f"{field.description} [{facts}]"


def _bounds(constraint: Any) -> list[tuple[str, Any]]:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = {word: getattr(constraint, name, None) for name, word in words.items()}
    return [(word, limit) for word, limit in limits.items() if limit is not None]


def table_console() -> Console:
    """Where tables are printed: as wide as they need where no terminal bounds them, so that a pipe gets all of it."""
    console = Console()
    return console if console.is_terminal else Console(width=UNBOUNDED)


def open_store() -> tuple[Settings, Store]:
    """Settings from the environment and the store they name, with its folders made."""
    settings = Settings.from_environment()
    try:
        settings.create_folders()
    except OSError as error:
        raise CommandError(
            f"The data folder {settings.data} cannot be made ({error.strerror}). Set DUO_STUDIO_DATA to one that can."
        ) from error
    return settings, Store(settings.database)


def find_project(store: Store, text: str) -> Project | None:
    """A project by id, by a name that only one has, or by how its id begins; None where there is none."""
    projects = store.list_projects()
    found = [project for project in projects if project.id == text] or [p for p in projects if p.name == text]
    if not found and len(text) >= SHORTEST_ID:
        found = [project for project in projects if project.id.startswith(text)]
    if len(found) > 1:
        raise CommandError(
            f"{len(found)} projects are called {text!r}; give one's id: {', '.join(p.id for p in found)}."
        )
    return found[0] if found else None


def get_project(store: Store, text: str) -> Project:
    """The project of that name or id; the error lists those there are."""
    project = find_project(store, text)
    if project is None:
        known = ", ".join(f"{p.name!r} ({p.id})" for p in store.list_projects()) or "none yet; `studio pairs` makes one"
        raise CommandError(f"There is no project {text!r}. Projects: {known}.")
    return project
