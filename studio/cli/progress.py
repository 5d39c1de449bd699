"""One line a piece of work: what is done, a bar, the time it took or is going to take."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from studio.cli.options import CommandError
from studio.jobs import Runner
from studio.records import Job
from studio.reports.html import duration


class TimeColumn(ProgressColumn):
    """Seconds taken once it is done, else what is left, by the job's own estimate."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        if task.fields["took"] is not None:
            return Text(duration(task.fields["took"]), "green")
        eta = task.fields["eta"]
        return Text("" if eta is None else f"{duration(eta)} left", "cyan")


class WorkProgress:
    """Follows jobs one after the other; on a terminal as bars, elsewhere as a line when each starts and ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description}", justify="left"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeColumn(),
            TextColumn("[dim]{task.fields[message]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> WorkProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bars.stop()

    def follow(self, runner: Runner, job: Job, title: str) -> Job:
        """Run a submitted job to its end. Raises CommandError where it failed or was stopped."""
        if not self.console.is_terminal:
            self.console.print(f"{title} …")
        bar = self._bars.add_task(title, total=None, message="starting", eta=None, took=None)
        started = time.monotonic()

        def show(row: Job) -> None:
            self._bars.update(
                bar, completed=row.step, total=row.total or None, message=row.message, eta=row.eta_seconds
            )

        job = runner.run_until_done(job.id, show)
        took = time.monotonic() - started
        if job.state != "done":
            self._bars.update(bar, message=job.state)
            self._bars.stop()
            raise CommandError(_end(job, title))
        self._bars.update(bar, completed=1, total=1, message="", took=took)
        if not self.console.is_terminal:
            self.console.print(f"{title}: {duration(took)}")
        return job


def _end(job: Job, title: str) -> str:
    how = "was stopped" if job.state == "stopped" else f"failed: {job.error}"
    return f"{title} {how}\nGo on with: python -m studio jobs resume {job.id}"
