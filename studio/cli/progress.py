"""One line a piece of work: what is done, a bar, the time it took or is going to take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from studio.cli.options import CommandError, JobStopped
from studio.durations import duration
from studio.jobs import Runner
from studio.records import Job


class TimeColumn(ProgressColumn):
    """Seconds taken once it is done, else what is left, by the job's own estimate."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        if task.fields["took"] is not None:
            return Text(duration(task.fields["took"]), "green")
        eta = task.fields["eta"]
        return Text("" if eta is None else f"{duration(eta)} left", "cyan")


class MessageColumn(ProgressColumn):
    """What is being done, as it stands, cut where the line ends."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["message"], "dim", no_wrap=True, overflow="ellipsis")


class WorkProgress:
    """Follows jobs one after the other; on a terminal as bars, elsewhere as a line when each starts and ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description}", justify="left", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=20, table_column=Column(no_wrap=True)),
            TextColumn("{task.percentage:>3.0f} %", table_column=Column(no_wrap=True)),
            TimeColumn(table_column=Column(no_wrap=True)),
            MessageColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> WorkProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bars.stop()

    def follow(
        self,
        runner: Runner,
        job: Job,
        title: str,
        watch: Callable[[Job], None] | None = None,
        options: str = "",
    ) -> Job:
        """Run a submitted job to its end; `watch` sees every change of its row.

        Raises CommandError where it failed and JobStopped where it was stopped; both say how to go on, with the
        `options` that `jobs resume` needs to end in the same way. Of a job that was refused for what was asked of it
        they do not: it would be refused again.
        """
        if not self.console.is_terminal:
            self.console.print(f"{title} …")
        bar = self._bars.add_task(title, total=None, message="starting", eta=None, took=None)
        started = time.monotonic()

        def show(row: Job) -> None:
            self._bars.update(
                bar, completed=row.step, total=row.total or None, message=row.message, eta=row.eta_seconds
            )
            if watch is not None:
                watch(row)

        job = runner.run_until_done(job.id, show)
        took = time.monotonic() - started
        if job.state != "done":
            self._bars.update(bar, message=job.state)
            self._bars.stop()
            again = f"o on with: python -m studio jobs resume {job.id}{options}"
            if job.state == "stopped":
                raise JobStopped(f"{title} was stopped.\nG{again}")
            mended = "" if job.refused else f"\nOnce that is mended, g{again}"
            raise CommandError(f"{title} failed: {job.error}{mended}")
        self._bars.update(bar, completed=1, total=1, message="", took=took)
        if not self.console.is_terminal:
            self.console.print(f"{title}: {duration(took)}")
        return job
