"""`demo` and `serve`: the whole method on the embedded checkpoint, and the page."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from studio.cli.options import open_store
from studio.cli.progress import WorkProgress
from studio.configs import DemoConfig
from studio.demo import QUICK_N, create_demo_project, demo_stages
from studio.jobs import Runner, submit
from studio.reports.html import CELL_TITLES, RETENTION_TITLES, duration, interval, label_of, percent
from studio.reports.schema import ModelReport, StudyReport
from studio.settings import REPOSITORY

PICTURE_NAME = re.compile(r"[0-9a-f]{32}\.png")  # as studio.workflow.evaluate names a picture: by what made it


def register(app: typer.Typer) -> None:
    app.command()(serve)
    app.command()(demo)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen at; GRADIO_SERVER_NAME.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; GRADIO_SERVER_PORT.")] = None,
) -> None:
    """Open the page (the same as `python app.py`)."""
    for name, value in (("GRADIO_SERVER_NAME", host), ("GRADIO_SERVER_PORT", port)):
        if value is not None:
            os.environ[name] = str(value)
    runpy.run_path(str(REPOSITORY / "app.py"), run_name="__main__")


def demo(
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything: pairs, training, comparison.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help=f"{QUICK_N} pictures a cell instead of 200.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for report.json and report.html.")] = Path("demo"),
) -> None:
    """Make pairs, train DUO and ESD, compare with the original: from zero, on the embedded checkpoint."""
    settings, store = open_store()
    config = DemoConfig(seed=seed, n=QUICK_N) if quick else DemoConfig(seed=seed)
    console = Console()
    console.print(
        f"[bold]DUO on the embedded checkpoint[/], seed {seed}, {config.n} pictures a cell; "
        f"{'under 8' if quick else 'under 25'} minutes on two cores. Ctrl-C stops; finished work is kept."
    )
    project = create_demo_project(store, config)
    runner = Runner(store, settings, interval=0.5)
    started = time.monotonic()
    with WorkProgress(console) as progress:
        for stage in demo_stages(config):
            job = progress.follow(runner, submit(store, settings, stage.kind, project.id, stage.config), stage.title)
    copy_report(Path(job.result["folder"]), out)
    console.print(comparison_table(StudyReport.read(out / "report.json")))
    console.print(f"{duration(time.monotonic() - started)} in all. Report: {out / 'report.html'}")
    console.print(f"Project {project.name!r} ({project.id}) is on the page too: python -m studio serve")


def copy_report(evaluation: Path, out: Path) -> None:
    """Put an evaluation's report and pictures into a folder, in place of what an earlier one left there.

    The folder may be any, a home folder with pictures of its own too: only files named as an evaluation names its
    pictures are removed.
    """
    pictures = out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", "report.html"):
        shutil.copyfile(evaluation / name, out / name)
    for path in pictures.glob("*.png"):
        if PICTURE_NAME.fullmatch(path.name):
            path.unlink()
    shutil.copytree(evaluation / "pictures", pictures, dirs_exist_ok=True)


def comparison_table(report: StudyReport) -> Table:
    """Every rate of every model with its interval."""
    table = Table(title=f"Forgetting “{report.concept}”: rates in %, with 95 % Wilson intervals", title_justify="left")
    table.add_column("")
    for key, model in report.models.items():
        table.add_column(label_of(key, model), justify="right")
    models = list(report.models.values())
    for cell, title in CELL_TITLES.items():
        if cell in models[0].concept_rate:
            table.add_row(f"{report.concept} seen: {title.lower()}", *(_rate(m, "concept_rate", cell) for m in models))
    table.add_section()
    for name, title in RETENTION_TITLES.items():
        if name in models[0].retention:
            table.add_row(f"kept: {title.lower()}", *(_rate(m, "retention", name) for m in models))
    table.add_section()
    means = ("—" if m.distance.mean is None else f"{m.distance.mean:.3f}" for m in models)
    table.add_row(f"distance ({models[0].distance.metric})", *means)
    table.add_row("training", *(duration(m.train_seconds) for m in models))
    return table


def _rate(model: ModelReport, kind: str, name: str) -> str:
    rate = getattr(model, kind).get(name)
    return "—" if rate is None else f"{percent(rate.rate)}\n[dim]{interval(rate)}[/]"
