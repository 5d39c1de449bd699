"""`sweep`: one value of a method's configuration after the other, each trained and evaluated, as one job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_origin

import typer
from pydantic import ValidationError
from rich.console import Console

from studio.cli.demo import show_report
from studio.cli.options import CommandError, ProjectOption, config_options, get_project, open_store, table_console
from studio.cli.progress import WorkProgress
from studio.configs import EvaluateConfig
from studio.evaluation_checks import refuse_evaluation
from studio.jobs import Runner, submit
from studio.method_configs import METHOD_CONFIGS
from studio.presets import PRESETS, presets_for
from studio.records import Project
from studio.room import largest, plans_of_sweep, refusal, sweep_words
from studio.settings import Settings
from studio.store import Store

BETWEEN = "|"  # of a list's entries in --set


def register(app: typer.Typer) -> None:
    app.command()(sweep)


@config_options(EvaluateConfig, skip=("command", "checkpoint_ids", "attacks", "processes"))
def sweep(
    project: ProjectOption,
    values: dict[str, Any],
    over: Annotated[str, typer.Option(help="What changes, name=value,value: beta=100,250,500.")],
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHOD_CONFIGS)}.")] = "duo",
    preset: Annotated[str | None, typer.Option(help="Start from the values of one of the method's presets.")] = None,
    set_value: Annotated[
        list[str] | None,
        typer.Option("--set", help=f"Another value of the method, name=value; lists with {BETWEEN} between."),
    ] = None,
    name: Annotated[str, typer.Option(help="What the models are called, before the value.")] = "",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Start although the estimate does not fit into the device's memory.")
    ] = False,
) -> None:
    """Train and evaluate a method at several values of one setting, and draw the curve: a point a value."""
    settings, store = open_store()
    owner = get_project(store, project)
    if method not in METHOD_CONFIGS:
        raise CommandError(f"There is no method {method!r}; use one of {', '.join(METHOD_CONFIGS)}.")
    if preset is not None and preset not in presets_for(method):
        raise CommandError(f"{method} has no preset {preset!r}; use one of: {', '.join(presets_for(method))}.")
    start = PRESETS[preset].values if preset else {}
    parameter, texts = pair(over, "--over", "beta=100,250,500")
    config = {
        "method": method,
        "name": name,
        "parameter": parameter,
        "values": [text.strip() for text in texts.split(",") if text.strip()],
        "config": {**start, **settings_of(method, set_value or ())},
        "evaluation": values,
    }
    refuse_evaluation(store, owner, values, to_train=True)
    _say_what_it_needs(store, settings, owner, config, anyway)
    job = submit(store, settings, "sweep", owner.id, config)
    with WorkProgress(Console()) as progress:
        job = progress.follow(Runner(store, settings, interval=0.5), job, f"Sweeping {parameter}")
    show_report(store, job, table_console())


def _say_what_it_needs(
    store: Store, settings: Settings, project: Project, config: Mapping[str, Any], anyway: bool
) -> None:
    """Memory and time of the trainings, as far as they are known. Raises CommandError where one does not fit."""
    if config["method"] != "duo":
        return
    try:
        plans = plans_of_sweep(store, settings, project, config["config"], config["parameter"], config["values"])
    except ValidationError:
        return  # refused with its reason where the job is submitted
    if plans:
        print(sweep_words(plans))
        if (why := refusal(largest(plans))) and not anyway:
            raise CommandError(f"{why} Set that with --set, or start it with --anyway.")


def settings_of(method: str, texts: Sequence[str]) -> dict[str, Any]:
    """Values as they were typed; those of lists are split. Raises CommandError."""
    fields = METHOD_CONFIGS[method].model_fields
    found: dict[str, Any] = {}
    for text in texts:
        name, value = pair(text, "--set", "learning_rate=1e-4")
        is_list = name in fields and get_origin(fields[name].annotation) is list
        found[name] = [one for one in value.split(BETWEEN) if one] if is_list else value
    return found


def pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise CommandError(f"{option} {text!r} is not name=value, for example {option} {example}.")
    return name.strip(), value.strip()
