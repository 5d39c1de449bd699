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
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from studio.attack_configs import ATTACK_CONFIGS, AttackJobConfig, attack_config
from studio.config_base import Config, refusal
from studio.configs import JOB_CONFIGS, EvaluateConfig, SweepConfig
from studio.evaluation_checks import with_presets
from studio.forks import ForkServer
from studio.groups import OPTION as GROUPED
from studio.hosting.roles import asker
from studio.launchers import Launcher, LaunchError, get_launcher
from studio.method_configs import METHOD_CONFIGS, method_title, sweepable
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
from studio.protocols import PROTOCOLS
from studio.records import ELSEWHERE, Job, JobKind, JobState
from studio.settings import Settings
from studio.store import Store
from studio.stress_configs import STRESS_CONFIGS

WORKER = ("-m", "studio.workflow")
EXIT_WAIT = 5.0  # seconds for the last threads of a worker that has ended
GRACE = 10.0  # seconds between SIGINT and SIGKILL
LIVE: tuple[JobState, ...] = ("running", "stopping")

log = logging.getLogger(__name__)


class JobError(ValueError):
    """A job that cannot be submitted as asked; says which value is wrong and what is allowed."""


def submit(store: Store, settings: Settings, kind: JobKind, project_id: str, config: Mapping[str, Any]) -> Job:
    """Check the config, complete it with the defaults and queue the job.

    A "train" config is {"method": "duo", "name": "as shown", "config": {…}}; the others are their Config's fields. An
    attack's `values` come out complete: those of the budget, with what was given over them. A training's "where" is
    {"launcher": "hf_jobs", …}, with what `studio.launchers` has of it.
    """
    where = dict(config.get("where") or {})
    config = {name: value for name, value in config.items() if name != "where"}
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
    launcher, place = _placed(settings, kind, where, effective)
    settings.create_folders()
    asked_by = _within_quota(store, settings)
    return store.create_job(
        Job("", project_id, kind, effective, asked_by=asked_by, launcher=launcher.name, place=place)
    )


def _placed(
    settings: Settings, kind: JobKind, asked: Mapping[str, Any], effective: Mapping[str, Any]
) -> tuple[Launcher, dict[str, Any]]:
    """What starts the job, and what that keeps with it. Raises JobError."""
    several = effective.get("processes", 1) > 1
    default = settings.launcher if kind == "train" else "local"
    name = asked.get("launcher") or default
    if name == "local" and several:
        name = "accelerate"
    try:
        launcher = get_launcher(name)
        if launcher.name in ELSEWHERE and kind != "train":
            raise LaunchError(f"{launcher.title} takes trainings alone, no {kind!r}. Leave it out.")
        if kind != "train":  # what only trainings can share among machines
            settings = replace(settings, accelerate_config=None)
        return launcher, launcher.place(settings, effective, asked)
    except LaunchError as error:
        raise JobError(str(error)) from error


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
    needs where that is longer."""
    for job in store.list_jobs(states=("stopping",)):
        longest = grace if job.launcher not in ELSEWHERE else max(grace, get_launcher(job.launcher).grace)
        if job.stop_asked is not None and time.time() - job.stop_asked > longest:
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
    name = effective["name"] or method_title(method)
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


def _complete(cls: type[Config], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    try:
        return cls.model_validate(dict(given)).model_dump()
    except ValidationError as error:
        raise JobError(f"{what}: {refusal(error, cls.model_fields)}") from error


def _signal(job: Job, signum: signal.Signals) -> None:
    if job.pid is not None and job.pid_started is not None:
        signal_worker(job.pid, job.pid_started, job.id, signum)
