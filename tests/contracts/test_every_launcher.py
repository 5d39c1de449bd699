"""What every launcher must do with a job: bring it to its end, tell of a failure, stop, outlive a restart, time out.

Local and accelerate start a worker that counts; at the stand-in for Hugging Face Jobs a script counts as a machine
there would, and the attendant is the real process. The last test trains there for real, through the whole command.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from studio.jobs import Runner, is_alive, log_path, resume, stop, submit
from studio.launchers import LAUNCHERS, get_launcher
from studio.launchers.attend import LABEL
from studio.launchers.events import event
from studio.records import Job, Project, PromptPair
from studio.settings import Settings
from studio.store import Store
from studio.workflow import generate_pairs, train
from tests.counting_worker import PAUSE, STEPS
from tests.hub_server import TOKEN
from tests.jobs_server import Jobs, RemoteJob, jobs_server
from tests.launcher_data import put_results
from tests.workflow_data import context_of, wait_for

SLOW = ("accelerate", "hf_jobs")
NAMES = [pytest.param(one.name, marks=[pytest.mark.slow] if one.name in SLOW else []) for one in LAUNCHERS]
WORKER = ("-m", "tests.counting_worker")
STATE, AHEAD = "state/step", 8


def count_there(store: Store, jobs: Jobs, remote: RemoteJob) -> None:
    """What the machine tells, does and keeps, as `studio.launchers.far` does it; but never far ahead of the row, so
    that it is not done before a test has looked.
    """
    job_id = remote.asked["labels"][LABEL]
    repository = jobs.hub.repositories[remote.asked["environment"]["DUO_STUDIO_REPOSITORY"]]
    remote.say("counting")
    if store.get_job(job_id).config["name"] == "breaks":
        remote.say(event(state="failed", error="It broke, as it was told to."))
        return remote.end("ERROR", "Exit code 1")
    first = int(repository.files.get(STATE, b"0"))
    for step in range(first + 1, STEPS + 1):
        remote.say(event(step=step, total=STEPS, message=f"step {step}", eta=None,
                         metrics=[{"step": step, "loss": 1 / step}]))  # fmt: skip
        repository.files[STATE] = str(step).encode()
        while store.get_job(job_id).step < step - AHEAD and not remote.has_ended:
            time.sleep(PAUSE)
        if remote.has_ended:
            return None
    put_results(repository, job_id, remote.say, result={"first": first})
    return remote.end("COMPLETED")


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    with jobs_server(tmp_path / "machines") as made:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_ENDPOINT", made.hub.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield made


@pytest.fixture(params=NAMES)
def launched(request: pytest.FixtureRequest, store: Store, settings: Settings, project: Project, jobs: Jobs) -> Ground:
    return Ground(request.param, store, settings, project, jobs)


class Ground:
    """One launcher, and what its jobs are started and looked at with."""

    def __init__(self, name: str, store: Store, settings: Settings, project: Project, jobs: Jobs) -> None:
        self.name, self.store, self.settings, self.project, self.jobs = name, store, settings, project, jobs
        self.runner = self.another_runner()
        jobs.script = partial(count_there, store)

    def another_runner(self) -> Runner:
        return Runner(self.store, self.settings, worker=WORKER, interval=0.05, grace=5)

    def submit(self, name: str = "counts", **where: Any) -> Job:
        asked = {"method": "duo", "name": name, "config": {"batch_size": 4}, "where": {"launcher": self.name, **where}}
        asked |= {"processes": 2} if self.name == "accelerate" else {}
        job = submit(self.store, self.settings, "train", self.project.id, asked)
        assert job.launcher == self.name
        return job

    def until(self, job: Job, step: int, runner: Runner | None = None) -> Job:
        """Ticks, as the page's thread does, until the row has come to this step."""

        def reached() -> bool:
            (runner or self.runner).tick()
            row = self.store.get_job(job.id)
            assert not row.is_final, f"{row.state}: {row.error}\n{log_path(self.settings, job.id).read_text()}"
            return row.step >= step

        wait_for(reached, 90)
        return self.store.get_job(job.id)

    def to_the_end(self, job: Job, runner: Runner | None = None) -> Job:
        return (runner or self.runner).run_until_done(job.id)

    def nothing_runs(self, job: Job) -> bool:
        row = self.store.get_job(job.id)
        return not is_alive(row.pid, row.pid_started) and all(one.has_ended for one in self.jobs.jobs.values())

    def is_whole(self, job: Job) -> None:
        assert job.state == "done", job.error
        assert (job.step, job.total, job.error) == (STEPS, STEPS, "")
        losses = {row["step"]: row["loss"] for row in self.store.job_metrics(job.id)}
        assert losses == {step: 1 / step for step in range(1, STEPS + 1)}
        assert "counting" in log_path(self.settings, job.id).read_text()
        wait_for(lambda: self.nothing_runs(job), 20)


def test_failed(launched: Ground) -> None:
    failed = launched.to_the_end(launched.submit("breaks"))
    assert failed.state == "failed"
    assert "It broke, as it was told to." in failed.error
    wait_for(lambda: launched.nothing_runs(failed), 20)


@pytest.mark.slow
def test_timed_out_restarted_stopped_and_done(launched: Ground) -> None:
    """One job through all of it: each start of a worker takes seconds."""
    store, settings = launched.store, launched.settings
    job = launched.until(launched.submit(timeout_minutes=60.0), 3)
    failed = times_out(launched, job)
    resume(store, settings, job.id)

    job = launched.until(job, failed.step + 3)
    again = another_web_process(launched, job)
    job = launched.until(job, job.step + 3, again)
    assert len(launched.jobs.jobs) in (0, 2), "what runs elsewhere was not started a second time"

    stop(store, settings, job.id)
    stopped = launched.to_the_end(job, again)
    assert (stopped.state, stopped.error) == ("stopped", "")
    assert job.step <= stopped.step < STEPS
    wait_for(lambda: launched.nothing_runs(job), 20)

    resume(store, settings, job.id)
    done = launched.to_the_end(job, again)
    launched.is_whole(done)
    assert done.result["first"] >= stopped.step - 1, "it went on where it was"


def times_out(launched: Ground, job: Job) -> Job:
    """Its time is over: here by a start that lies an hour back, elsewhere by the service's word."""
    if launched.jobs.jobs:
        assert launched.jobs.last.asked["timeoutSeconds"] == 3600
        launched.jobs.last.end("ERROR", "Job timeout")
    else:
        launched.store.update_job(job.id, started=time.time() - 3601)
    failed = launched.to_the_end(job)
    assert failed.state == "failed"
    assert "after its time-out of 60 minutes. Resume the job to go on" in failed.error
    wait_for(lambda: launched.nothing_runs(job), 20)
    return failed


def another_web_process(launched: Ground, job: Job) -> Runner:
    """Its runner finds the job as it is; what runs elsewhere even outlives the process that has the row."""
    again = launched.another_runner()
    if get_launcher(launched.name).goes_on(job):
        assert job.pid is not None
        os.kill(job.pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(job.pid, job.pid_started), 20)
    again.tick()
    later = launched.store.get_job(job.id)
    assert later.state == "running", later.error
    assert (later.pid != job.pid) == get_launcher(launched.name).goes_on(job)
    return again


@pytest.mark.slow
def test_a_training_at_the_stand_in_gives_the_same_adapter_as_here(
    store: Store, settings: Settings, tiny_folder: Path, project: Project, jobs: Jobs
) -> None:
    """Through the whole command: source and inputs from the hub, pip, `remote run`, a time-out in the middle, its
    state on the next machine, an attendant that is killed, and the results."""
    settings = replace(settings, toybox=tiny_folder)
    store.add_prompt_pairs([PromptPair("", project.id, "a knight with a sword", "a cook", count=4)])
    generate_pairs(context_of(store, settings, project, "pairs", {"steps": 2, "filter_by_detector": False,
                                                                  "auto_accept": True}))  # fmt: skip
    config = {"steps": 24, "batch_size": 4, "rank": 2, "alpha": 2.0, "sample_every": 24, "save_every": 1}
    asked: dict[str, Any] = {"method": "duo", "name": "There", "config": config}
    where = {"launcher": "hf_jobs", "flavor": "t4-small", "save_minutes": 0.02}
    runner = Runner(store, settings, interval=0.2)
    job = submit(store, settings, "train", project.id, {**asked, "where": where})

    def kept() -> bool:
        runner.tick()
        assert not store.get_job(job.id).is_final, store.get_job(job.id).error
        return bool(jobs.jobs) and "The training's state is kept." in jobs.last.lines

    wait_for(kept)
    jobs.last.end("ERROR", "Job timeout")
    assert "time-out of 240 minutes" in runner.run_until_done(job.id).error
    resume(store, settings, job.id)
    wait_for(lambda: runner.tick() or (store.get_job(job.id).place["remote_id"] == jobs.last.id != "0" * 24))
    os.kill(store.get_job(job.id).pid or 0, signal.SIGKILL)
    done = runner.run_until_done(job.id)
    assert done.state == "done", done.error
    assert len(jobs.jobs) == 2
    assert "Going on from the saved state." in jobs.last.lines
    there = store.get_checkpoint(done.result["checkpoint_id"])
    assert (there.name, Path(there.path).parent) == ("There", settings.checkpoints / job.id)
    assert {sample.step for sample in store.list_samples(job.id)} == {0, 24}
    assert jobs.hub.repositories == {}, "what was sent does not stay there"
    context = context_of(store, settings, project, "train", asked)
    here = train(context)
    own, same = load_file(store.get_checkpoint(here["checkpoint_id"]).path), load_file(there.path)
    assert own.keys() == same.keys()
    assert all(bool((own[name] == same[name]).all()) for name in own)
    assert done.config["config"] == store.get_job(context.job.id).config["config"]
