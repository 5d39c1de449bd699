"""`stress` and `transfer`: what real attackers do to a model, and found prompts drawn by other models, as tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from models.files import write_atomically
from studio.cli.attack import victim_id
from studio.cli.options import CommandError, ProjectOption, config_options, get_project, open_store
from studio.cli.progress import WorkProgress
from studio.jobs import Runner, submit
from studio.records import Job, Trial
from studio.reports.schema import Rate
from studio.reports.trials import lines_of, models_of, relearned_of, trials_csv, trials_json
from studio.settings import Settings
from studio.store import Store
from studio.stress_configs import StressConfig, TransferConfig

OutOption = Annotated[Path | None, typer.Option(help="Also write the table to this .json or .csv.")]


def register(app: typer.Typer) -> None:
    app.command()(stress)
    app.command()(transfer)


@config_options(StressConfig, skip=("victims",))
def stress(
    project: ProjectOption,
    values: dict[str, Any],
    victim: Annotated[
        list[str] | None, typer.Option(help="A trained model's id or name; may be repeated. Default: all trained.")
    ] = None,
    out: OutOption = None,
) -> None:
    """Count what models still show after what real attackers do: relearning, int8, other samplers, start pictures."""
    _check_out(out)
    settings, store = open_store()
    owner = get_project(store, project)
    config = {**values, "victims": [victim_id(store, owner, name) for name in victim or []]}
    trials = _follow(settings, store, submit(store, settings, "stress", owner.id, config), "Doing what attackers do")
    console = Console()
    console.print(rates_table(trials, owner.concept))
    if relearned := relearned_of(trials):
        console.print(_relearned_table(relearned, models_of(trials)))
    _write(trials, out)


@config_options(TransferConfig, skip=("models",))
def transfer(
    project: ProjectOption,
    values: dict[str, Any],
    model: Annotated[
        list[str] | None,
        typer.Option(help="original, oracle, or a trained model's id or name; may be repeated. Default: all trained."),
    ] = None,
    out: OutOption = None,
) -> None:
    """Let other models draw the prompts that an attack found on some: how far they carry over."""
    _check_out(out)
    settings, store = open_store()
    owner = get_project(store, project)
    config = {**values, "models": [victim_id(store, owner, name) for name in model or []]}
    trials = _follow(settings, store, submit(store, settings, "transfer", owner.id, config), "Drawing what was found")
    console = Console()
    console.print(rates_table(trials, owner.concept, "found on", "drawn by"))
    console.print("One picture a prompt, on a seed that was not searched on; the prompts worked on the one that was.")
    _write(trials, out)


def _follow(settings: Settings, store: Store, job: Job, title: str) -> list[Trial]:
    with WorkProgress(Console()) as progress:
        progress.follow(Runner(store, settings, interval=0.5), job, title)
    return store.list_trials(job.project_id, job.id)


def rates_table(trials: Sequence[Trial], concept: str, first: str = "", models: str = "") -> Table:
    """A row a condition, a column a model, each rate with its interval and n."""
    table = Table(title=f"Pictures that show the {concept}, with 95 % Wilson intervals and n", title_justify="left")
    table.add_column(first)
    names = models_of(trials)
    for name in names.values():
        table.add_column(f"{models} {name}".strip(), justify="right")
    for line in lines_of(trials):
        table.add_row(line.title, *(_cell(line.rate(key)) for key in names))
    return table


def _relearned_table(relearned: Sequence[Any], names: dict[str, str]) -> Table:
    table = Table(title="Training steps until the concept is back", title_justify="left")
    for name in ("", *names.values()):
        table.add_column(name)
    for one in relearned:
        steps = [one.steps.get(key, "—") for key in names]
        table.add_row(one.course, *(f"not within {one.most}" if s is None else str(s or "never gone") for s in steps))
    return table


def _cell(rate: Rate | None) -> str:
    return "—" if rate is None else f"{rate.rate:.0%}\n[dim]{rate.low:.0%}–{rate.high:.0%}, {rate.n}[/]"


def _check_out(out: Path | None) -> None:
    if out is not None and out.suffix not in (".json", ".csv"):
        raise CommandError(f"--out is {out}; its name must end with .json or .csv.")


def _write(trials: Sequence[Trial], out: Path | None) -> None:
    if out is None:
        return
    text = trials_csv(trials) if out.suffix == ".csv" else json.dumps(trials_json(trials), indent=1) + "\n"
    write_atomically(out, text.encode())
    print(f"Wrote {out}")
