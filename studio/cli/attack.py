"""`attack`: one red-team attack on a project's models, and its success rates as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from studio.attack_configs import ATTACK_CONFIGS, AttackJobConfig
from studio.attack_costs import Speed, estimate, speed_of
from studio.cli.options import (
    CommandError,
    ProjectOption,
    config_options,
    get_project,
    open_store,
    table_console,
)
from studio.cli.progress import WorkProgress
from studio.config_base import refusal
from studio.durations import duration
from studio.evaluation_checks import models_named
from studio.jobs import Runner, submit
from studio.prompt_sources import read_prompts
from studio.records import Project
from studio.reports.attack_files import write_found
from studio.reports.attacks import AttackSummary, Comparison, summarise
from studio.reports.schema import Rate
from studio.store import Store

ORIGIN = ("original", "oracle")


def register(app: typer.Typer) -> None:
    app.command()(attack)


@config_options(AttackJobConfig, skip=("attack", "values", "victims", "prompts"))
def attack(
    project: ProjectOption,
    values: dict[str, Any],
    attack: Annotated[str, typer.Option("--attack", help=f"One of {', '.join(ATTACK_CONFIGS)}.")] = "ring_a_bell",
    victim: Annotated[
        list[str] | None,
        typer.Option(help="original, oracle, or a trained model's id or name; may be repeated. Default: all trained."),
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt; may be repeated. Default: the project's.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A file of prompts: CSV of any known kind, or one a line.")
    ] = None,
    set_value: Annotated[
        list[str] | None, typer.Option("--set", help="A value of the attack itself, name=value; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write what was found to this CSV.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it may cost.")] = False,
) -> None:
    """Attack unlearned models with their control beside it, and count what still shows the concept."""
    settings, store = open_store()
    owner = get_project(store, project)
    texts = list(prompt or []) + ([row.prompt for row in read_prompts(prompts)] if prompts else [])
    config = {
        **values,
        "attack": attack,
        "victims": [victim_id(store, owner, name) for name in victim or []],
        "prompts": texts,
        "values": dict(_pair(text) for text in set_value or []),
    }
    models = config["victims"] or [checkpoint.id for checkpoint in store.list_checkpoints(owner.id)]
    speed = speed_of(store.list_attack_runs(owner.id), owner.checkpoint.startswith("toybox"))
    print(cost_line(AttackJobConfig(**config), len(models), speed))
    if dry_run:
        return
    job = submit(store, settings, "attack", owner.id, config)
    with WorkProgress(Console()) as progress:
        progress.follow(Runner(store, settings, interval=0.5), job, f"Attacking with {attack}")
    runs = store.list_attack_runs(owner.id, job.id)
    print_summaries(table_console(), summarise(runs))
    if out is not None:
        write_found(runs, out)
        print(f"Wrote {out}")
    print(f"{len(runs)} rows are in job {job.id}. Found prompts and embeddings stay in the project.")


def victim_id(store: Store, project: Project, name: str) -> str:
    """What the job calls a model. Raises CommandError where no or several models bear the name."""
    if name in ORIGIN:
        return name
    trained = store.list_checkpoints(project.id)
    found = models_named(trained, name)
    if len(found) != 1:
        known = ", ".join([*ORIGIN, *(f"{c.name} ({c.id})" for c in trained)])
        raise CommandError(f"{len(found)} models of {project.name!r} are named {name!r}; use one of: {known}.")
    return found[0].id


def cost_line(config: AttackJobConfig, victims: int, speed: Speed | None = None) -> str:
    """The most that the job costs, in words."""
    if config.attack not in ATTACK_CONFIGS:
        raise CommandError(f"There is no attack {config.attack!r}; use one of {', '.join(ATTACK_CONFIGS)}.")
    try:
        cost = estimate(config, victims, speed)
    except ValidationError as error:
        known = ATTACK_CONFIGS[config.attack].model_fields
        raise CommandError(f"--set of {config.attack}: {refusal(error, known)}") from error
    time = f" That takes at most about {duration(cost.seconds)}, {cost.where}." if cost.seconds is not None else ""
    return f"{cost.words}{time}"


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise CommandError(f"--set {text!r} is not name=value, for example --set generations=500.")
    return name.strip(), value.strip()


def print_summaries(console: Console, summaries: list[AttackSummary]) -> None:
    """One row a model: rates with their 95 % intervals."""
    table = Table(title="Share that shows the concept, with 95 % interval")
    columns = ("model", "attack", "plain prompt", "prompts", "searched seed", "fresh seeds", "control", "plain again")
    for name in (*columns, "p (Holm)", "queries", "time"):
        table.add_column(name)
    for one in summaries:
        table.add_row(
            one.victim_name,
            one.attack,
            _rate(one.pre),
            str(one.searched.n) if one.searched else "0",
            _rate(one.searched),
            _rate(one.fresh),
            f"{_rate(one.control_fresh)} {one.control}".strip(),
            _rate(one.plain_fresh),
            _test(one.against_control),
            f"{one.queries:.1f}",
            duration(one.seconds),
        )
    console.print(table)
    console.print(
        "Attacked are prompts where the plain prompt fails; control and plain prompt are judged on the same prompts "
        "and fresh seeds. p: attack against control, exact McNemar, one fresh picture a prompt."
    )


def _rate(rate: Rate | None) -> str:
    return "–" if rate is None else f"{rate.rate:.0%} ({rate.low:.0%}–{rate.high:.0%})"


def _test(test: Comparison | None) -> str:
    return "–" if test is None else f"{test.holm:.2g} ({test.only_first}:{test.only_second})"
