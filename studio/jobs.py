"""Background work: one row and one child process a job, `python -m studio.workflow JOB_ID` in its own group. No torch.

The row is the truth. The runner claims it, starts the child and watches; the child reports into the row through
`job_report`. A child outlives the runner: after a restart, the next runner finds it by its process id and start time,
or finds it gone and says so in the row.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from studio.attack_configs import ATTACK_CONFIGS, AttackJobConfig, attack_config
from studio.config_base import Config
from studio.configs import JOB_CONFIGS, EvaluateConfig, SweepConfig
from studio.evaluation_checks import with_presets
from studio.forks import ForkServer
from studio.groups import OPTION as GROUPED
from studio.hosting.roles import asker
from studio.method_configs import METHOD_CONFIGS, sweepable
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
from studio.progress import Stopped
from studio.protocols import PROTOCOLS
from studio.records import Job, JobKind, JobState
from studio.settings import Settings
from studio.store import Store
from studio.stress_configs import STRESS_CONFIGS

WORKER = ("-m", "studio.workflow")
# Several processes for one job, on one machine: accelerate starts them, and ends them all when one of them fails.
TOGETHER = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no",
            "--dynamo_backend", "no", "--main_process_port", "0")  # fmt: skip
EXIT_WAIT = 5.0  # seconds for the last threads of a worker that has ended
GRACE = 10.0  # seconds between SIGINT and SIGKILL
LIVE: tuple[JobState, ...] = ("running", "stopping")

log = logging.getLogger(__name__)


class JobError(ValueError):
    """A job that cannot be submitted as asked; says which value is wrong and what is allowed."""


def submit(store: Store, settings: Settings, kind: JobKind, project_id: str, config: Mapping[str, Any]) -> Job:
    """Check the config, complete it with the defaults and queue the job.

    A "train" config is {"method": "duo", "name": "as shown", "config": {…}}; the others are their Config's fields. An
    attack's `values` come out complete: those of the budget, with what was given over them.
    """
    if kind == "train":
        method = config.get("method")
        if method not in METHOD_CONFIGS:
            raise JobError(f"There is no method {method!r}; use one of {', '.join(METHOD_CONFIGS)}.")
        given = config.get("config", {})
        effective = {"method": method, "name": config.get("name") or method}
        effective["config"] = _complete(METHOD_CONFIGS[method], given, f"Method {method}")
        effective |= _processes(settings, method, config, effective["config"])
    elif kind == "attack":
        effective = _attack(config)
    elif kind == "sweep":
        effective = _sweep(config, store.get_project(project_id).checkpoint)
    elif kind in STRESS_CONFIGS:
        effective = _complete(STRESS_CONFIGS[kind], config, f"Job {kind}")
    elif kind in JOB_CONFIGS:
        if kind in ("pairs", "evaluate") and settings.processes > 1:
            config = {"processes": settings.processes, **config}
        if kind == "pairs" and (config.get("redo") or config.get("retry_failed")):
            config = {**config, "processes": 1}  # a few pairs, each of which keeps its row
        if kind == "evaluate":
            config = with_presets(config, store.get_project(project_id).checkpoint)
        effective = _complete(JOB_CONFIGS[kind], config, f"Job {kind}")
    else:
        raise JobError(
            f"There is no kind of job {kind!r}; use train, attack, {', '.join((*JOB_CONFIGS, *STRESS_CONFIGS))}."
        )
    settings.create_folders()
    asked_by = _within_quota(store, settings)
    return store.create_job(Job(id="", project_id=project_id, kind=kind, config=effective, asked_by=asked_by))


def _within_quota(store: Store, settings: Settings) -> str:
    """Who asks, where somebody signed in. Raises JobError where that user has too many jobs that have not ended."""
    viewer, most = asker.get(), settings.limits.jobs
    if viewer is None or not viewer.signed_in:
        return ""
    own = [job for job in store.list_jobs(states=(*LIVE, "queued")) if job.asked_by == viewer.name]
    if most and len(own) >= most:
        raise JobError(
            f"{viewer.name} has {len(own)} jobs that have not ended, and {most} are the most for one user. Wait for "
            "one of them, or stop it under Jobs."
        )
    return viewer.name


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
        time.sleep(0.1)
        job = store.get_job(job_id)
    return job


def resume(store: Store, settings: Settings, job_id: str) -> Job:
    """Queue a failed or stopped job again under its own id, so that its worker finds the state it saved.

    Raises StoreError for a job in any other state.
    """
    recover(store, settings)
    return store.requeue_job(job_id)


def recover(store: Store, settings: Settings, exit_code: Callable[[str], int | None] | None = None) -> list[Job]:
    """End the jobs whose process is gone: failed, with the log's last lines, or stopped where a stop was asked for.

    `exit_code` tells that of a job id, None where it is not known. Returns the jobs it ended.
    """
    ended = []
    for job in store.list_jobs(states=LIVE):
        if not is_alive(job.pid, job.pid_started):
            how = describe_exit(exit_code(job.id) if exit_code else None)
            lines = last_lines(log_path(settings, job.id)) or "(the log is empty)"
            error = f"The worker (process {job.pid}) {how}. Resume the job to go on from what it saved.\n{lines}"
            if store.bury_job(job.id, job.pid, error):
                ended.append(store.get_job(job.id))
    return ended


def kill_overdue(store: Store, grace: float = GRACE) -> None:
    """Kill the process group of each job that was asked to stop more than `grace` seconds ago."""
    for job in store.list_jobs(states=("stopping",)):
        if job.stop_asked is not None and time.time() - job.stop_asked > grace:
            _signal(job, signal.SIGKILL)


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
            recover(self.store, self.settings, self._exit_code)
            self._forget_ended_children()
            for job in self.store.list_jobs(states=("queued",))[:1]:
                if self.store.claim_job(job.id, os.getpid(), start_time(os.getpid())):
                    self._launch(job)

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
                arguments = launch_arguments(self.worker, job)
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


class JobReport:
    """The `Report` of a job: writes progress into its row, keeps values as its metrics, raises `Stopped` when asked."""

    def __init__(
        self, store: Store, job_id: str, *, interval: float = 0.5, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._job_id, self._interval, self._clock = store, job_id, interval, clock
        self._pace = Pace()
        self._fields: dict[str, Any] = {}
        self._metrics: dict[int, dict[str, float]] = {}
        self._written: float | None = None

    def __call__(self, step: int, total: int, message: str = "", **values: float) -> None:
        """Tell one step. Writes at most every `interval` seconds, and always the last step of `total`."""
        now = self._clock()
        self._fields |= {"step": step, "total": total, "eta_seconds": self._pace.eta(step, total, now)}
        if message:
            self._fields["message"] = message
        if values:
            self._metrics.setdefault(step, {}).update(values)
        if self._written is None or now - self._written >= self._interval or step >= total:
            self._written = now
            self.flush()
            if self._store.stop_requested(self._job_id):
                raise Stopped(f"Job {self._job_id} was asked to stop at step {step} of {total}.")

    def flush(self) -> None:
        """Write what is not yet written; for the end of work that ends before its last step."""
        metrics, self._metrics = self._metrics, {}
        for step, values in metrics.items():
            self._store.add_job_metrics(self._job_id, step, values)
        self._store.update_job(self._job_id, heartbeat=time.time(), **self._fields)


def job_report(store: Store, job_id: str) -> JobReport:
    """The report that a worker hands to its work."""
    return JobReport(store, job_id)


class Pace:
    """Seconds a step, from the steps done in this run alone: a resumed run starts counting where it takes up."""

    SMOOTHING = 0.1  # a plain mean over the first steps, then this weight for the newest one

    def __init__(self) -> None:
        self._total = self._step = self._first = 0
        self._time = self._seconds = 0.0

    def eta(self, step: int, total: int, now: float) -> float | None:
        """Seconds left, None until two steps of the same work were seen. Another total or a step back starts anew."""
        if total != self._total or step < self._step:
            self._total, self._first, self._step, self._time = total, step, step, now
            return None
        if step > self._step:
            weight = max((step - self._step) / (step - self._first), self.SMOOTHING)
            self._seconds += weight * ((now - self._time) / (step - self._step) - self._seconds)
            self._step, self._time = step, now
        return (total - step) * self._seconds if step > self._first else None


def _attack(config: Mapping[str, Any]) -> dict[str, Any]:
    """An attack's job with the attack's own configuration complete in it."""
    effective = _complete(AttackJobConfig, config, "Job attack")
    attack, budget = effective["attack"], effective["budget"]
    if attack not in ATTACK_CONFIGS:
        raise JobError(f"There is no attack {attack!r}; use one of {', '.join(ATTACK_CONFIGS)}.")
    start = attack_config(attack, budget).model_dump()
    values = _complete(ATTACK_CONFIGS[attack], {**start, **effective["values"]}, f"Attack {attack}")
    return {**effective, "values": values}


def _sweep(config: Mapping[str, Any], checkpoint: str) -> dict[str, Any]:
    """A sweep's job with both configurations complete in it; every value is checked now, not after an hour."""
    effective = _complete(SweepConfig, config, "Job sweep")
    method, parameter, what = effective["method"], effective["parameter"], f"Method {effective['method']}"
    if method not in METHOD_CONFIGS:
        raise JobError(f"There is no method {method!r}; use one of {', '.join(METHOD_CONFIGS)}.")
    known = sweepable(method)
    if parameter not in known:
        raise JobError(f"{what} has no value {parameter!r} to sweep over; use one of {', '.join(known)}.")
    if effective["config"].get(GROUPED):
        raise JobError(f"{GROUPED} trains several adapters a value. Turn it off, and sweep each group in a project.")
    values = [_complete(METHOD_CONFIGS[method], {**effective["config"], parameter: value}, what)[parameter]
              for value in effective["values"]]  # fmt: skip
    if len(set(values)) < len(values):
        raise JobError(f"{parameter} has a value twice: {', '.join(map(str, values))}. Leave one out.")
    own = {name: value for name, value in effective["config"].items() if name != parameter}
    complete = _complete(METHOD_CONFIGS[method], {**own, parameter: values[0]}, what)
    asked = effective["evaluation"]
    if (protocol := PROTOCOLS.get(asked.get("protocol", ""))) and protocol.attacks and not asked.get("incomplete"):
        raise JobError(
            f"“{protocol.title}” counts attacks, which cannot be run before a model is trained. Sweep with another "
            "protocol or with --incomplete; then attack the chosen model, and evaluate it alone."
        )
    start = {"seed_range": "sweep", **with_presets(asked, checkpoint)}
    evaluation = _complete(EvaluateConfig, start, "Evaluation of a sweep")
    name = effective["name"] or method.upper()
    return {**effective, "name": name, "values": values, "config": complete, "evaluation": evaluation}


def _processes(
    settings: Settings, method: str, config: Mapping[str, Any], effective: Mapping[str, Any]
) -> dict[str, Any]:
    """How many processes train together, where it is more than one. Raises JobError."""
    count = int(config.get("processes") or (settings.processes if method == "duo" else 1))
    if effective.get("shard_base"):
        _check_sharing(count, effective)
    if count == 1:
        return {}
    if method != "duo":
        raise JobError(f"{count} processes cannot train {method} together, only duo: the others' losses do not split.")
    if effective["batch_size"] % count:
        raise JobError(
            f"batch_size {effective['batch_size']} cannot be dealt out to {count} processes. Use a multiple of {count}."
        )
    return {"processes": count}


def _check_sharing(count: int, effective: Mapping[str, Any]) -> None:
    """Raises JobError where a base cannot be shared: all processes take part in all that the network computes."""
    if count == 1:
        raise JobError(
            "shard_base shares the frozen base among several processes, but this training has one. Use 2 processes or "
            "more, one a GPU (--processes, or DUO_STUDIO_PROCESSES for the page), or turn shard_base off."
        )
    if effective["sample_every"]:
        raise JobError(
            f"sample_every is {effective['sample_every']}, but no sample pictures are drawn with a shared base "
            "(shard_base), which one process alone cannot ask. Set sample_every to 0."
        )


def launch_arguments(worker: Sequence[str], job: Job) -> list[str]:
    """Python's arguments that start a job's worker, or its workers."""
    count = job.config.get("processes", 1)
    if count == 1 or worker[:1] != ("-m",):
        return [*worker, job.id]
    return [*TOGETHER, "--num_processes", str(count), "--module", worker[1], job.id]


def _complete(cls: type[Config], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    try:
        return cls.model_validate(dict(given)).model_dump()
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise JobError(f"{what}: {'; '.join(problems)}.") from error


def _signal(job: Job, signum: signal.Signals) -> None:
    if job.pid is not None and job.pid_started is not None:
        signal_worker(job.pid, job.pid_started, job.id, signum)
