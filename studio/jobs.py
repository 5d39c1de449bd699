"""Background work: one row and one child process a job, `python -m studio.workflow JOB_ID` in its own group. No torch.

The row is the truth. The runner claims it, starts the child and watches; the child reports into the row through
`job_report`. A child outlives the runner: after a restart, the next runner finds it by its process id and start time,
or finds it gone and says so in the row. What is asked of a job is checked by `studio.job_requests`.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from studio.forks import ForkServer
from studio.job_requests import JobError, submit
from studio.launchers import get_launcher
from studio.processes import (
    Child,
    describe_exit,
    is_alive,
    last_lines,
    signal_worker,
    start_fork_server,
    start_python,
    start_time,
)
from studio.records import ELSEWHERE, LIVE, Job
from studio.settings import Settings
from studio.store import Store

__all__ = [
    "GRACE",
    "LIVE",
    "WORKER",
    "JobError",
    "Runner",
    "end_overtime",
    "is_alive",
    "is_unattended",
    "kill_overdue",
    "log_path",
    "log_tail",
    "recover",
    "resume",
    "stop",
    "submit",
    "take_row",
]

WORKER = ("-m", "studio.workflow")
EXIT_WAIT = 5.0  # seconds for the last threads of a worker that has ended
GRACE = 10.0  # seconds between SIGINT and SIGKILL
CLOCK_SLACK = 5.0  # seconds by which a clock is corrected without being set

log = logging.getLogger(__name__)


def stop(store: Store, settings: Settings, job_id: str, *, wait: bool = False, grace: float = GRACE) -> Job:
    """Ask a job to stop: the flag in its row, then SIGINT. A queued job is stopped at once.

    A runner's tick kills it when it has not ended after `grace` seconds; with `wait`, this call does that itself and
    returns when the job has ended.
    """
    before = store.get_job(job_id).state
    job = store.request_stop(job_id)
    if before == "running" and job.state == "stopping":
        _signal(job, signal.SIGINT)
    while wait and not job.is_final:
        kill_overdue(store, grace)
        recover(store, settings)
        Runner(store, settings).attend()  # one that goes on without a process is cancelled by one
        time.sleep(0.1)
        job = store.get_job(job_id)
    return job


def resume(store: Store, settings: Settings, job_id: str) -> Job:
    """Queue a failed or stopped job again under its own id, so that its worker finds the state it saved.

    Raises StoreError for a job in any other state.
    """
    recover(store, settings)
    job = store.get_job(job_id)
    if job.state in LIVE and is_unattended(job):
        return job  # the next tick of a runner takes it up
    return store.requeue_job(job_id)


def take_row(store: Store, job_id: str) -> Job:
    """The job, with this process in its row: no two workers ever write into one job's folders.

    Until then the row names the runner that claimed it, which is this process's parent. Raises JobError where the job
    has ended or another process has it.
    """
    pid, started = os.getpid(), start_time(os.getpid())
    if store.claim_job(job_id, pid, started, exclusive=False):
        return store.get_job(job_id)
    job = store.get_job(job_id)
    if job.is_final:
        raise JobError(f"Job {job_id} is {job.state} already; resume it, or submit another.")
    if job.pid not in (pid, os.getppid()):
        raise JobError(f"Job {job_id} is {job.state} in process {job.pid}; wait for it, or stop it first.")
    return store.update_job(job_id, pid=pid, pid_started=started)


def is_unattended(job: Job) -> bool:
    """Whether a job's process is gone, but not its work, which a runner's tick attends to again."""
    return not is_alive(job.pid, job.pid_started) and get_launcher(job.launcher).goes_on(job)


def recover(store: Store, settings: Settings, exit_code: Callable[[str], int | None] | None = None) -> list[Job]:
    """End the jobs whose process is gone: failed, with the log's last lines, or stopped where a stop was asked for.
    One whose work goes on elsewhere is left for a runner to attend to.

    `exit_code` tells that of a job id, None where it is not known. Returns the jobs it ended.
    """
    ended = []
    for job in store.list_jobs(states=LIVE):
        if not is_alive(job.pid, job.pid_started) and not is_unattended(job):
            how = describe_exit(exit_code(job.id) if exit_code else None)
            lines = last_lines(log_path(settings, job.id)) or "(the log is empty)"
            error = f"The worker (process {job.pid}) {how}. Resume the job to go on from what it saved.\n{lines}"
            if store.bury_job(job.id, job.pid, error):
                ended.append(store.get_job(job.id))
    return ended


def kill_overdue(store: Store, grace: float = GRACE) -> None:
    """Kill the process group of each job that was asked to stop more than `grace` seconds ago, or what its launcher
    needs where that is longer. One whose stop lies ahead, since the clock was set back, has waited long enough too."""
    for job in store.list_jobs(states=("stopping",)):
        longest = grace if job.launcher not in ELSEWHERE else max(grace, get_launcher(job.launcher).grace)
        if job.stop_asked is not None and not -CLOCK_SLACK <= time.time() - job.stop_asked <= longest:
            _signal(job, signal.SIGKILL)


def end_overtime(store: Store) -> None:
    """Fail the jobs of this machine that have run longer than their time-out. One elsewhere is ended there."""
    for job in store.list_jobs(states=("running",)):
        allowed = job.place.get("timeout_minutes", 0.0) * 60
        if job.launcher in ELSEWHERE or not allowed or job.started is None or time.time() - job.started < allowed:
            continue
        _signal(job, signal.SIGKILL)
        error = (
            f"It was ended after its time-out of {allowed / 60:g} minutes. Resume the job to go on from what it saved; "
            "it then has as long again."
        )
        store.bury_job(job.id, job.pid, error)


def log_path(settings: Settings, job_id: str) -> Path:
    """Where a job's output goes; a resumed job appends."""
    return settings.logs / f"{job_id}.log"


def log_tail(settings: Settings, job_id: str, lines: int = 40) -> str:
    """The last lines of a job's log, "" before it has one."""
    return last_lines(log_path(settings, job_id), lines)


class Runner:
    """Starts queued jobs one at a time, since they share one device, and notices dead ones.

    Any number of runners may serve one store: the claim of a row is atomic.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        worker: Sequence[str] = WORKER,
        interval: float = 1.0,
        grace: float = GRACE,
    ) -> None:
        """`worker` are Python's arguments before the job's id; `interval` and `grace` are seconds."""
        self.store, self.settings, self.worker = store, settings, tuple(worker)
        self.interval, self.grace = interval, grace
        self._children: dict[str, Child] = {}
        self._lock = threading.Lock()  # one tick at a time
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._forks: ForkServer | None = None

    def start(self) -> None:
        """Tick every `interval` seconds in a thread of this process."""
        if self._thread is None:
            self._closing.clear()
            self._forks = start_fork_server(self.settings)
            self._thread = threading.Thread(target=self._watch, name="job-runner", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop watching. A running job goes on; the next runner finds it."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._forks is not None:
            self._forks.close()
            self._forks = None

    def tick(self) -> None:
        """Kill what overstays its stop, end the dead, start the next queued job if none is running."""
        with self._lock:
            kill_overdue(self.store, self.grace)
            end_overtime(self.store)
            recover(self.store, self.settings, self._exit_code)
            self._forget_ended_children()
            self.attend()
            queued = self.store.list_jobs(states=("queued",))
            here = [job for job in queued if job.launcher not in ELSEWHERE]
            for job in [*here[:1], *(job for job in queued if job.launcher in ELSEWHERE)]:
                exclusive = job.launcher not in ELSEWHERE
                if self.store.claim_job(job.id, os.getpid(), start_time(os.getpid()), exclusive=exclusive):
                    self._launch(job)

    def attend(self) -> None:
        """Start a process again for each job that goes on without one."""
        for job in self.store.list_jobs(states=LIVE):
            if is_unattended(job) and self.store.take_over(job.id, job.pid, os.getpid(), start_time(os.getpid())):
                place = {**job.place, "attendants": job.place.get("attendants", 0) + 1}
                self._launch(self.store.update_job(job.id, place=place))

    def run_until_done(self, job_id: str, on_change: Callable[[Job], None] | None = None) -> Job:
        """For a shell: tick until the job has ended, tell each change of its row, return it.

        Jobs queued before it run first. Ctrl-C asks the job to stop and waits for it; a second one raises.
        """
        seen: Job | None = None
        interrupted = False
        while seen is None or not seen.is_final:
            try:
                if self._thread is None:
                    self.tick()
                job = self.store.get_job(job_id)
                if job != seen and on_change is not None:
                    on_change(job)
                seen = job
                if not job.is_final:
                    time.sleep(self.interval)
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                stop(self.store, self.settings, job_id)
        if child := self._children.get(job_id):
            child.wait()  # its row is final: it is about to end
        return seen

    def _launch(self, job: Job) -> None:
        """Start the child of a claimed job and put its process into the row.

        If that fails or is interrupted, the row must not go on naming this process, which lives: nobody would notice.
        """
        path = log_path(self.settings, job.id)
        problem = "its start was interrupted"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as output:
                arguments = get_launcher(job.launcher).arguments(self.worker, job)
                child = start_python(self.settings, arguments, stdout=output.fileno(), stderr=output.fileno())
            self._children[job.id] = child
            self.store.update_job(job.id, pid=child.pid, pid_started=child.started)
        except OSError as error:
            problem = f"{error}; free memory or disk"
        finally:  # does nothing where the row names the child
            self.store.bury_job(job.id, os.getpid(), f"The worker did not start: {problem}. Then resume the job.")

    def _forget_ended_children(self) -> None:
        """But not one that ended after `recover` has looked: the next tick must tell how."""
        live = {job.id for job in self.store.list_jobs(states=LIVE)}
        children = self._children.items()
        self._children = {job_id: child for job_id, child in children if job_id in live or child.poll() is None}

    def _exit_code(self, job_id: str) -> int | None:
        """That of a child which is no longer alive.

        Its first thread can be a zombie while others still end, and until they have, a look at the child tells nothing.
        """
        try:
            return self._children[job_id].wait(timeout=EXIT_WAIT) if job_id in self._children else None
        except subprocess.TimeoutExpired:
            return None

    def _watch(self) -> None:
        while not self._closing.wait(self.interval):
            try:
                self.tick()
            except Exception:  # the loop that all jobs hang on outlives one bad tick, say a full disk
                log.exception("The job runner's tick failed; trying again in %s s.", self.interval)
        self.store.close()


def _signal(job: Job, signum: signal.Signals) -> None:
    if job.pid is not None and job.pid_started is not None:
        signal_worker(job.pid, job.pid_started, job.id, signum)
