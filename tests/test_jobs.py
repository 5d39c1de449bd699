"""Jobs as real child processes: progress, stop, kill -9, resume, and two runners on one store.

The children are a small script here; test_workflow.py does the same with the real worker.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from studio.job_reports import JobReport, Pace
from studio.jobs import JobError, Runner, log_path, recover, resume, stop, submit
from studio.processes import describe_exit, is_alive, last_lines, signal_worker, start_time
from studio.progress import Stopped
from studio.records import Job, Project
from studio.settings import Settings
from studio.store import Store, StoreError

WORKER = '''
"""A small worker: counts to config["steps"], keeps its step in a file, and honours a stop unless told otherwise."""
import ctypes, os, signal, subprocess, sys, threading, time
from studio.job_reports import job_report
from studio.progress import Stopped
from studio.settings import Settings
from studio.store import Store

settings = Settings.from_environment()
store = Store(settings.database)
job = store.get_job(sys.argv[1])
config = job.config
report = job_report(store, job.id)
with open(settings.data / f"starts-{job.id}", "a") as file:
    file.write(f"{os.getpid()}\\n")
if config.get("crash"):
    raise RuntimeError("the card is on fire")
if config.get("lingering"):
    threading.Thread(target=lambda: (time.sleep(1), os._exit(3))).start()
    ctypes.CDLL(None).pthread_exit(None)
if config.get("stubborn"):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (settings.data / "grandchild").write_text(str(child.pid))
    print("not listening", flush=True)
    time.sleep(60)
state = settings.checkpoints / job.id / "step"
state.parent.mkdir(parents=True, exist_ok=True)
done = int(state.read_text()) if state.exists() else 0
try:
    for step in range(done + 1, config["steps"] + 1):
        time.sleep(config.get("seconds", 0.01))
        state.write_text(str(step))
        print(f"finished step {step}", flush=True)
        report(step, config["steps"], f"step {step}", loss=1 / step)
    store.update_job(job.id, state="done", result={"from": done})
except (Stopped, KeyboardInterrupt):
    report.flush()
    store.update_job(job.id, state="stopped")
'''


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))


@pytest.fixture
def make_runner(store: Store, settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    """Runners of the small worker; whatever they started is ended after the test."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    runners: list[Runner] = []

    def make(**options: Any) -> Runner:
        runners.append(Runner(store, settings, worker=[str(script)], **{"interval": 0.05, **options}))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()
        for child in runner._children.values():
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def make_job(store: Store, project: Project, **config: Any) -> Job:
    return store.create_job(Job("", project.id, "pairs", config))


def wait_for(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


def started(store: Store, job: Job, step: int = 1) -> Job:
    """Wait until the job's worker has reported this step."""
    return wait_for(lambda: (row := store.get_job(job.id)).step >= step and row)


# -- a job's life ------------------------------------------------------------------------------------------------------


def test_a_job_runs_to_its_end(store: Store, settings: Settings, project: Project, make_runner) -> None:
    job = make_job(store, project, steps=5)
    seen: list[Job] = []
    ended = make_runner().run_until_done(job.id, seen.append)
    assert (ended.state, ended.step, ended.total, ended.result) == ("done", 5, 5, {"from": 0})
    assert seen[0].state in ("queued", "running")
    assert seen[-1] == ended
    assert [row["loss"] for row in store.job_metrics(job.id)] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert "finished step 5" in log_path(settings, job.id).read_text()


def test_the_child_leads_its_own_group_and_the_row_names_it(store: Store, project: Project, make_runner) -> None:
    job = make_job(store, project, steps=1000)
    make_runner().tick()
    row = started(store, job)
    assert row.state == "running"
    assert os.getpgid(row.pid) == row.pid != os.getpgid(0)
    assert is_alive(row.pid, row.pid_started)
    assert row.heartbeat > row.started - 1
    assert wait_for(lambda: store.get_job(job.id).eta_seconds) > 0


def test_jobs_run_one_after_the_other(store: Store, project: Project, make_runner) -> None:
    first, second = make_job(store, project, steps=20), make_job(store, project, steps=2)
    runner = make_runner()
    runner.tick()
    runner.tick()
    assert [job.state for job in store.list_jobs()] == ["running", "queued"]
    assert runner.run_until_done(second.id).state == "done"
    assert store.get_job(first.id).state == "done"
    assert store.get_job(first.id).finished <= store.get_job(second.id).started


def test_the_runner_thread_starts_and_finishes_jobs(store: Store, project: Project, make_runner) -> None:
    runner = make_runner()
    runner.start()
    job = make_job(store, project, steps=2)
    assert runner.run_until_done(job.id).state == "done"
    runner.close()


def test_two_runners_start_a_job_once(store: Store, settings: Settings, project: Project, make_runner) -> None:
    job = make_job(store, project, steps=20)
    runners = [make_runner() for _ in range(4)]
    barrier = threading.Barrier(4)

    def race(runner: Runner) -> None:
        barrier.wait()
        for _ in range(5):
            runner.tick()

    threads = [threading.Thread(target=race, args=(runner,)) for runner in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runners[0].run_until_done(job.id).state == "done"
    assert len((settings.data / f"starts-{job.id}").read_text().splitlines()) == 1


# -- death and recovery ------------------------------------------------------------------------------------------------


def test_a_killed_worker_fails_with_its_last_lines_and_resumes(store: Store, project: Project, make_runner) -> None:
    job = make_job(store, project, steps=60, seconds=0.05)
    runner = make_runner()
    runner.tick()
    row = started(store, job, 3)
    os.kill(row.pid, signal.SIGKILL)
    failed = runner.run_until_done(job.id)
    assert failed.state == "failed"
    assert "was killed by SIGKILL" in failed.error
    last = failed.error.splitlines()[-1]
    assert last.startswith("finished step ")
    again = resume(store, runner.settings, job.id)
    assert (again.id, again.state, again.error) == (job.id, "queued", "")
    done = runner.run_until_done(job.id)
    assert done.state == "done"
    assert done.result["from"] >= int(last.removeprefix("finished step "))
    assert [row["step"] for row in store.job_metrics(job.id)][-1] == 60


def test_a_new_runner_leaves_a_living_job_alone_and_notices_its_death(
    store: Store, settings: Settings, project: Project, make_runner
) -> None:
    job = make_job(store, project, steps=1000)
    old = make_runner()
    old.tick()
    row = started(store, job)
    new = make_runner()
    new.tick()
    assert store.get_job(job.id).state == "running"
    os.killpg(row.pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(row.pid, row.pid_started))
    new.tick()
    failed = store.get_job(job.id)
    assert failed.state == "failed"
    assert f"process {row.pid}) is gone" in failed.error


def test_a_reused_process_id_is_not_taken_for_the_worker(store: Store, settings: Settings, project: Project) -> None:
    job = make_job(store, project, steps=1)
    store.claim_job(job.id, os.getpid(), start_time(os.getpid()) - 100)
    assert [ended.id for ended in recover(store, settings)] == [job.id]
    assert store.get_job(job.id).state == "failed"


def test_recover_turns_a_stopping_job_into_a_stopped_one(store: Store, settings: Settings, project: Project) -> None:
    job = make_job(store, project, steps=1)
    store.claim_job(job.id, 2**22 + 1, 1.0)
    store.request_stop(job.id)
    [ended] = recover(store, settings)
    assert (ended.state, ended.error) == ("stopped", "")
    assert resume(store, settings, job.id).state == "queued"


def test_a_crash_shows_the_traceback(store: Store, project: Project, make_runner) -> None:
    failed = make_runner().run_until_done(make_job(store, project, crash=True).id)
    assert failed.state == "failed"
    assert "ended with exit code 1" in failed.error
    assert failed.error.endswith("RuntimeError: the card is on fire")


def test_a_worker_whose_threads_outlive_its_first_one_tells_its_exit_code(
    store: Store, project: Project, make_runner
) -> None:
    """Linux shows it as a zombie, but there is no exit code before the last thread has ended."""
    failed = make_runner().run_until_done(make_job(store, project, lingering=True).id)
    assert failed.state == "failed"
    assert "ended with exit code 3" in failed.error


def test_a_worker_that_cannot_start_fails(store: Store, settings: Settings, project: Project, make_runner) -> None:
    settings.logs.rmdir()
    settings.logs.write_text("a file where the folder should be")
    job = make_job(store, project, steps=1)
    failed = make_runner().run_until_done(job.id)
    assert failed.state == "failed"
    assert "did not start" in failed.error


def test_a_start_that_breaks_off_leaves_no_job_running(store: Store, settings: Settings, project: Project) -> None:
    job = make_job(store, project, steps=1)
    with pytest.raises(ValueError, match="null byte"):
        Runner(store, settings, worker=["\0"]).tick()
    assert store.get_job(job.id).state == "failed"
    assert "did not start: its start was interrupted" in store.get_job(job.id).error


# -- stop and resume ---------------------------------------------------------------------------------------------------


def test_stop_and_resume_a_running_job(store: Store, settings: Settings, project: Project, make_runner) -> None:
    job = make_job(store, project, steps=300)
    runner = make_runner()
    runner.tick()
    started(store, job)
    assert stop(store, settings, job.id).state == "stopping"
    stopped = runner.run_until_done(job.id)
    assert (stopped.state, stopped.error) == ("stopped", "")
    assert 0 < stopped.step < 300
    resume(store, settings, job.id)
    done = runner.run_until_done(job.id)
    assert done.state == "done"
    assert done.result["from"] >= stopped.step


def test_a_queued_job_stops_at_once(store: Store, settings: Settings, project: Project) -> None:
    job = make_job(store, project, steps=1)
    stopped = stop(store, settings, job.id, wait=True)
    assert (stopped.state, stopped.started) == ("stopped", None)


def test_a_stubborn_worker_is_killed_with_its_children(
    store: Store, settings: Settings, project: Project, make_runner
) -> None:
    job = make_job(store, project, stubborn=True)
    runner = make_runner(grace=0.3)
    runner.tick()
    wait_for(lambda: "not listening" in last_lines(log_path(settings, job.id)))
    grandchild = int((settings.data / "grandchild").read_text())
    asked = time.monotonic()
    stop(store, settings, job.id)
    assert runner.run_until_done(job.id).state == "stopped"
    assert time.monotonic() - asked > 0.3
    wait_for(lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == "zombie")


def test_a_stop_is_not_put_off_by_a_clock_that_is_set_back(
    store: Store, settings: Settings, project: Project, make_runner
) -> None:
    job = make_job(store, project, stubborn=True)
    runner = make_runner(grace=60.0)
    runner.tick()
    wait_for(lambda: "not listening" in last_lines(log_path(settings, job.id)))
    stop(store, settings, job.id)
    store.update_job(job.id, stop_asked=time.time() + 86_400)
    assert runner.run_until_done(job.id).state == "stopped"


def test_stop_can_wait_without_a_runner(store: Store, settings: Settings, project: Project, make_runner) -> None:
    job = make_job(store, project, stubborn=True)
    make_runner().tick()
    wait_for(lambda: "not listening" in last_lines(log_path(settings, job.id)))
    assert stop(store, settings, job.id, wait=True, grace=0.2).state == "stopped"


def test_stop_never_signals_a_process_that_is_no_worker(store: Store, settings: Settings, project: Project) -> None:
    """Between claim and launch the row names the runner's own process, here this test's."""
    job = make_job(store, project, steps=1)
    store.claim_job(job.id, os.getpid(), start_time(os.getpid()))
    assert stop(store, settings, job.id).state == "stopping"


def test_no_process_signals_itself() -> None:
    """`jobs resume JOB` claims the row before its worker starts, and has the job's id on its command line."""
    word = psutil.Process().cmdline()[-1]
    assert not signal_worker(os.getpid(), start_time(os.getpid()), word, signal.SIGINT)


def test_a_finished_job_cannot_be_resumed(store: Store, settings: Settings, project: Project) -> None:
    job = make_job(store, project, steps=1)
    store.update_job(job.id, state="done")
    with pytest.raises(StoreError, match="is done; only a failed or stopped job"):
        resume(store, settings, job.id)


# -- submit ------------------------------------------------------------------------------------------------------------


def test_submit_completes_the_config(store: Store, settings: Settings, project: Project) -> None:
    pairs = submit(store, settings, "pairs", project.id, {"strength": 0.8})
    assert (pairs.state, pairs.config["strength"], pairs.config["max_tries"]) == ("queued", 0.8, 6)
    training = submit(store, settings, "train", project.id, {"method": "duo", "config": {"beta": 100}})
    assert (training.config["method"], training.config["name"]) == ("duo", "duo")
    assert (training.config["config"]["beta"], training.config["config"]["t_max"]) == (100.0, 750)


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("pairs", {"strength": 3}, "Job pairs: strength = 3: it must be at most 1"),
        ("pairs", {"colour": 1}, "colour = 1: there is no such value; use one of"),
        (
            "evaluate",
            {"n": 100_000, "repeats": 11},
            "repeats = 11: n x repeats is .* = 1,100,000 pictures a cell, and 1,0",
        ),
        ("train", {"method": "magic"}, "no method 'magic'; use one of duo, esd"),
        ("train", {"method": "duo", "config": {"beta": -1}}, "Method duo: beta = -1"),
        ("dance", {}, "no kind of job 'dance'; use train, .*pairs"),
    ],
)
def test_submit_names_what_is_wrong(
    store: Store, settings: Settings, project: Project, kind: Any, config: dict, message: str
) -> None:
    with pytest.raises(JobError, match=message):
        submit(store, settings, kind, project.id, config)
    assert store.list_jobs() == []


# -- reports -----------------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_report_writes_seldom_but_always_the_last(store: Store, project: Project) -> None:
    job, clock = make_job(store, project), Clock()
    report = JobReport(store, job.id, clock=clock)
    rows = []
    for step in range(1, 11):
        clock.now += 0.2
        report(step, 10, f"step {step}", loss=float(step))
        rows.append(store.get_job(job.id).step)
    assert rows == [1, 1, 1, 4, 4, 4, 7, 7, 7, 10]
    assert [row["loss"] for row in store.job_metrics(job.id)] == list(range(1, 11))
    row = store.get_job(job.id)
    assert (row.total, row.message) == (10, "step 10")
    assert row.eta_seconds == pytest.approx(0)


def test_report_raises_stopped_after_writing(store: Store, project: Project) -> None:
    job = make_job(store, project)
    store.claim_job(job.id, 1, 1.0)
    report = JobReport(store, job.id, interval=0)
    report(1, 10)
    store.request_stop(job.id)
    with pytest.raises(Stopped, match="step 2 of 10"):
        report(2, 10, loss=math.nan)
    assert store.get_job(job.id).step == 2
    assert len(store.job_metrics(job.id)) == 1


def test_report_flush_writes_the_rest(store: Store, project: Project) -> None:
    job = make_job(store, project)
    report = JobReport(store, job.id, clock=Clock())
    report(1, 10, loss=1.0)
    report(2, 10, loss=2.0)
    assert store.get_job(job.id).step == 1
    report.flush()
    assert store.get_job(job.id).step == 2
    assert len(store.job_metrics(job.id)) == 2


def test_pace_counts_only_the_steps_of_this_run() -> None:
    pace = Pace()
    assert pace.eta(501, 1000, now=0.0) is None  # resumed at step 500
    assert pace.eta(502, 1000, now=2.0) == pytest.approx(498 * 2)
    assert pace.eta(504, 1000, now=6.0) == pytest.approx(496 * 2)


def test_pace_follows_a_change_and_starts_anew_with_other_work() -> None:
    pace = Pace()
    for step in range(100):
        pace.eta(step, 200, now=float(step))
    for step in range(100, 160):
        left = pace.eta(step, 200, now=100 + (step - 99) * 3.0)
    assert left == pytest.approx(41 * 3, rel=0.05)
    assert pace.eta(1, 50, now=1000.0) is None
    assert pace.eta(2, 50, now=1001.0) == pytest.approx(48)


# -- small parts -------------------------------------------------------------------------------------------------------


def test_last_lines_of_a_log_with_a_progress_bar(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("start\r\n\n10%\r50%\r100%\nend\n")
    assert last_lines(log, 2) == "100%\nend"
    assert last_lines(tmp_path / "none") == ""
    log.write_text("start\rLoading weights: 100%|████| 52/52 [00:00<00:00, 17564.94it/s]\n")
    assert last_lines(log) == "start"


def test_describe_exit() -> None:
    assert describe_exit(None) == "is gone"
    assert describe_exit(3) == "ended with exit code 3"
    assert describe_exit(-signal.SIGKILL) == "was killed by SIGKILL (often: out of memory)"
