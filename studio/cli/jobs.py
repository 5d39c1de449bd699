"""`jobs`: what runs and what ran."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from studio.cli.demo import check_out, follow_demo, show_report
from studio.cli.options import CommandError, get_project, open_store, table_console
from studio.cli.progress import WorkProgress
from studio.durations import duration
from studio.jobs import Runner, log_path, recover, resume, stop
from studio.processes import last_lines

REPORTING = ("demo", "evaluate", "sweep")  # kinds of job that end with a report
JobArgument = Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="List, show, stop and resume jobs.", no_args_is_help=True)
    group.command("list")(list_jobs)
    group.command("show")(show)
    group.command("stop")(stop_job)
    group.command("resume")(resume_job)
    app.add_typer(group, name="jobs")


def list_jobs(
    project: Annotated[str | None, typer.Option("--project", "-p", help="Only this project's, by name or id.")] = None,
) -> None:
    """All jobs, oldest first."""
    settings, store = open_store()
    recover(store, settings)
    names = {p.id: p.name for p in store.list_projects()}
    columns = [Column(name, no_wrap=True) for name in ("job", "kind", "state", "done", "project")]
    table = Table(*columns, "message", box=None)
    for job in store.list_jobs(get_project(store, project).id if project else None):
        done = f"{job.step}/{job.total}" if job.total else ""
        message = (job.error or job.message).split("\n")[0]
        # As plain text: a name or an error may hold square brackets, which are rich's markup.
        table.add_row(*map(Text, (job.id, job.kind, job.state, done, names[job.project_id], message)))
    table_console().print(table if table.row_count else "No jobs yet.")


def show(job_id: JobArgument) -> None:
    """Everything about one job, with the last lines of its log."""
    settings, store = open_store()
    recover(store, settings)
    job = store.get_job(job_id)
    print(f"{job.id}  {job.kind}  {job.state}  {job.step}/{job.total}  {job.message}")
    if job.started is not None:
        print(f"started {datetime.fromtimestamp(job.started).isoformat(sep=' ', timespec='seconds')}", end="")
        print(f", took {duration(job.finished - job.started)}" if job.finished else "")
    print("config " + json.dumps(job.config, indent=2))
    if job.result:
        print("result " + json.dumps(job.result, indent=2))
    if job.error:
        print(f"error {job.error}")
    if lines := last_lines(log_path(settings, job.id)):
        print(f"log {log_path(settings, job.id)}:\n{lines}")


def stop_job(job_id: JobArgument) -> None:
    """Ask a job to stop and wait for it; finished work is kept."""
    settings, store = open_store()
    job = stop(store, settings, job_id, wait=True)
    print(f"Job {job.id} is {job.state}.")


def resume_job(
    job_id: JobArgument,
    out: Annotated[
        Path | None, typer.Option(help="Of a demo or a comparison: folder to copy the report to.", show_default=False)
    ] = None,
) -> None:
    """Go on with a failed or stopped job where it was, and follow it."""
    settings, store = open_store()
    kind = store.get_job(job_id).kind
    if out is not None and kind not in REPORTING:
        raise CommandError(f"--out is for a {' or '.join(REPORTING)} job, but {job_id} is a {kind} job; leave it out.")
    if out is not None:
        check_out(out)
    job = resume(store, settings, job_id)
    console, runner = Console(), Runner(store, settings, interval=0.5)
    what = f"{job.kind} of project {store.get_project(job.project_id).name!r}"
    print(f"Job {job.id} ({what}) goes on where it was, and is followed here; Ctrl-C stops it, and `python -m studio "
          f"jobs show {job.id}` tells how it stands and its log.")  # fmt: skip
    if kind == "demo":
        job = follow_demo(runner, job, console, out)
    else:
        with WorkProgress(console) as progress:
            job = progress.follow(runner, job, f"Resuming {job.kind}")
    if kind in REPORTING:
        show_report(store, job, console, out)
    print(f"Job {job.id} is {job.state}: {json.dumps(job.result)}")
