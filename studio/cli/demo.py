"""`demo` and `serve`: the whole method on the embedded checkpoint, and the page."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from studio.cli.options import CommandError, open_store
from studio.cli.progress import WorkProgress
from studio.configs import DemoConfig
from studio.demo import ALL_METHODS, QUICK_N, create_demo_project, demo_stages
from studio.durations import duration
from studio.jobs import Runner, submit
from studio.method_configs import method_title
from studio.records import Job
from studio.reports.schema import ModelReport, StudyReport
from studio.reports.words import (
    breaks,
    cell_title,
    cells_in,
    estimate_text,
    interval,
    label_of,
    line_kinds,
    line_title,
    measured_text,
    percent,
    training_time,
)
from studio.settings import REPOSITORY
from studio.store import Store

USUAL = DemoConfig()
DEMO_FOLDER = Path("demo")
MINUTES = {USUAL.n: 8, QUICK_N: 5}  # by pictures a cell
WIDE = 6  # models whose columns still fit a terminal
SHORT = {"neighbour": "like it", "background": "place"}
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
    quick: Annotated[bool, typer.Option("--quick", help=f"{QUICK_N} pictures a cell instead of {USUAL.n}.")] = False,
    n: Annotated[int | None, typer.Option(min=1, help=f"Pictures a cell. [{USUAL.n}]", show_default=False)] = None,
    pairs: Annotated[int, typer.Option(min=8, help="Image pairs to make and to train on.")] = USUAL.pairs,
    methods: Annotated[
        str, typer.Option(help=f"What to train, by commas; all: {', '.join(ALL_METHODS)}. Each by its “toybox” preset.")
    ] = ",".join(USUAL.methods),
    out: Annotated[Path, typer.Option(help="Folder for report.json and report.html.")] = DEMO_FOLDER,
) -> None:
    """Make pairs, train DUO and ESD, compare with the original: from zero, on the embedded checkpoint.

    Where other methods are asked for, models are also drawn with their changes weaker and stronger than trained.
    """
    if quick and n is not None:
        raise CommandError(f"--quick means --n {QUICK_N}, but --n is {n}; give one of the two.")
    config = demo_config(seed, QUICK_N if quick else n or USUAL.n, pairs, methods)
    settings, store = open_store()
    check_out(out)
    console = Console()
    console.print(
        f"[bold]{', '.join(map(method_title, config.methods))} on the embedded checkpoint[/], seed {seed}, {config.n} "
        f"pictures a cell{minutes(config)}. Ctrl-C stops; finished work is kept."
    )
    job = submit(store, settings, "demo", create_demo_project(store, config).id, config.model_dump())
    started = time.monotonic()
    job = follow_demo(Runner(store, settings, interval=0.5), job, console, out)
    show_report(store, job, console, out)
    console.print(f"{duration(time.monotonic() - started)} in all.")


def demo_config(seed: int, n: int, pairs: int, methods: str) -> DemoConfig:
    """Raises CommandError for a method that there is not."""
    names = ALL_METHODS if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()]
    try:
        return DemoConfig(seed=seed, n=n, pairs=pairs, methods=names)
    except ValidationError as error:
        raise CommandError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error


def minutes(config: DemoConfig) -> str:
    """How long it takes, where that was measured."""
    measured = MINUTES if config.methods == USUAL.methods else {}
    return f"; about {measured[config.n]} minutes on two idle cores" if config.n in measured else ""


def follow_demo(runner: Runner, job: Job, console: Console, out: Path | None) -> Job:
    """Follow a demo's job to its end, with a line for each of its stages. Raises what `WorkProgress.follow` does."""
    options = "" if out is None else f" --out {shlex.quote(str(out))}"
    with WorkProgress(console) as progress:
        return progress.follow(runner, job, "Demo", StageLines(console, job), options)


class StageLines:
    """Prints a line when a stage of a demo starts (where no bar says so) and when it ends, by what its row tells."""

    def __init__(self, console: Console, job: Job) -> None:
        config = {name: value for name, value in job.config.items() if name != "stages"}
        self._console = console
        self._left = [stage for stage in demo_stages(DemoConfig(**config)) if stage.name not in job.result]
        self._since: float | None = None

    def __call__(self, job: Job) -> None:
        """Look at the row as it is now."""
        if job.state == "queued":
            return
        now = time.monotonic()
        if self._since is None:
            self._begin(now)
        while self._left and self._left[0].name in job.result:
            title = self._left.pop(0).title
            self._console.print(f"{title}: {duration(now - (self._since or now))}")
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._since = now
        if self._left and not self._console.is_terminal:
            self._console.print(f"{self._left[0].title} …")


def check_out(out: Path) -> None:
    """Find out before the work, not after it, that a report cannot be put there. Raises OSError."""
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass


def show_report(store: Store, job: Job, console: Console, out: Path | None = None) -> None:
    """Print the table of a finished demo or comparison, copy its report into `out`, and say where it lies."""
    result = job.result.get("evaluate", job.result)
    folder = Path(store.get_evaluation(result["evaluation_id"]).folder)
    if out is not None:
        copy_report(folder, out)
        folder = out
    report = StudyReport.read(folder / "report.json")
    console.print(comparison_table(report))
    if (own := protocol_table(report)) is not None:
        console.print(own)
    for missing in report.protocol.missing if report.protocol else ():
        console.print(f"Missing: {missing}", markup=False)
    console.print(f"Report: {folder / 'report.html'}", markup=False)
    project = store.get_project(job.project_id)
    console.print(f"Project {project.name!r} ({project.id}) is on the page too: python -m studio serve", markup=False)


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
    """Every rate of every model with its interval; of more than six models a line each, without intervals."""
    if len(report.models) > WIDE:
        return lines_table(report)
    table = Table(title=f"Forgetting “{report.concept}”: rates in %, with 95 % intervals", title_justify="left")
    table.add_column("")
    for key, model in report.models.items():
        table.add_column(label_of(key, model), justify="right")
    models = list(report.models.values())
    for kind in line_kinds(report):
        for cell in cells_in(report, kind):
            title = line_title(report, kind, cell)
            table.add_row(f"{title[0].lower()}{title[1:]}", *(_rate(m, kind, cell) for m in models))
        table.add_section()
    means = ("—" if m.distance.mean is None else f"{m.distance.mean:.3f}" for m in models)
    table.add_row(f"distance ({models[0].distance.metric})", *means)
    for name in dict.fromkeys(name for m in models for name in m.measures):
        title = next(m.measures[name].title for m in models if name in m.measures)
        table.add_row(title, *(measured_text(m.measures[name]) if name in m.measures else "—" for m in models))
    table.add_row("training", *(training_time(m.train_seconds) for m in models))
    return table


def protocol_table(report: StudyReport) -> Table | None:
    """A protocol's own figures; None without one."""
    if report.protocol is None:
        return None
    table = Table(title=report.protocol.title, title_justify="left")
    for name in ("", *(label_of(key, model) for key, model in report.models.items())):
        table.add_column(name)
    for figure in report.protocol.figures:
        cells = [
            "\n[dim]".join(estimate_text(figure.values[key], figure.is_share)) + "[/]" if key in figure.values else "—"
            for key in report.models
        ]
        table.add_row(f"{figure.title} {'↑' if figure.higher_is_better else '↓'}", *cells)
    return table


def lines_table(report: StudyReport) -> Table:
    """A line a model; the intervals are in the report. Broken: nothing recognised, in the worst cell of the concept."""
    cells, kinds = cells_in(report, "concept_rate"), cells_in(report, "retention")
    title = f"Forgetting “{report.concept}”: % with it, % kept, n = {report.n} a cell"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    shares = [*(cell_title(cell).lower() for cell in cells), *(SHORT.get(kind, kind) for kind in kinds)]
    for name in (*shares, *(("broken",) if breaks(report) else ()), "distance", "training"):
        table.add_column(name, justify="right")
    for key, model in report.models.items():
        rates = [model.concept_rate.get(cell) for cell in cells] + [model.retention.get(kind) for kind in kinds]
        if breaks(report):
            rates.append(max(model.broken_rate.values(), key=lambda rate: rate.rate, default=None))
        shown = ["—" if rate is None else f"{100 * rate.rate:.0f}" for rate in rates]
        mean = "—" if model.distance.mean is None else f"{model.distance.mean:.3f}"
        seconds = "—" if model.train_seconds is None else f"{model.train_seconds:.0f} s"
        table.add_row(label_of(key, model), *shown, mean, seconds)
    return table


def _rate(model: ModelReport, kind: str, name: str) -> str:
    rate = getattr(model, kind).get(name)
    return "—" if rate is None else f"{percent(rate.rate)}\n[dim]{interval(rate)}[/]"
