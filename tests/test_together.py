"""One training by several processes: launched, stopped, killed and resumed as one job."""

from __future__ import annotations

import os
import queue
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from studio.jobs import JobError, Runner, resume, submit
from studio.launchers.accelerate import ACCELERATE, TOGETHER
from studio.records import Job, Project, PromptPair
from studio.reports.schema import StudyReport
from studio.settings import Settings
from studio.store import Store
from studio.workflow import generate_pairs, run_job
from studio.workflow.joining import leave_after
from tests.workflow_data import context_of, wait_for

TINY = {"steps": 6, "batch_size": 4, "rank": 2, "alpha": 2.0, "sample_every": 0, "save_every": 2}


@pytest.fixture
def ready(store: Store, settings: Settings, tiny_folder: Path, project: Project) -> Settings:
    """Settings of a studio on the tiny checkpoint, with pairs to train on."""
    settings = replace(settings, toybox=tiny_folder, device="cpu", threads=1)
    store.add_prompt_pairs([PromptPair("", project.id, "a knight with a sword", "a cook", count=4)])
    making = {"steps": 2, "filter_by_detector": False, "auto_accept": True}
    generate_pairs(context_of(store, settings, project, "pairs", making))
    return settings


def asked(store: Store, settings: Settings, project: Project, processes: int, **changes: object) -> Job:
    config = {"method": "duo", "processes": processes, "config": {**TINY, **changes}}
    return submit(store, settings, "train", project.id, config)


def workers_of(job: Job) -> list[psutil.Process]:
    """Processes that have the job's id on their command line: the launcher and the workers."""
    found = []
    for process in psutil.process_iter():
        try:
            if job.id in process.cmdline() and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_more_processes_are_launched_by_accelerate(store: Store, settings: Settings, project: Project) -> None:
    job = asked(store, settings, project, 2)
    assert ACCELERATE.arguments(("-m", "studio.workflow"), job) == [
        *TOGETHER, "--num_processes", "2", "--module", "studio.workflow", job.id
    ]  # fmt: skip
    alone = asked(store, settings, project, 1)
    assert "processes" not in alone.config
    assert ACCELERATE.arguments(("-m", "studio.workflow"), alone) == ["-m", "studio.workflow", alone.id]
    by_default = submit(store, replace(settings, processes=4), "train", project.id, {"method": "duo", "config": TINY})
    assert by_default.config["processes"] == 4


def test_what_cannot_be_dealt_out_is_refused(store: Store, settings: Settings, project: Project) -> None:
    with pytest.raises(JobError, match=r"batch_size 4 cannot be dealt out to 3 processes\. Use a multiple of 3"):
        asked(store, settings, project, 3)
    with pytest.raises(JobError, match="2 processes cannot train esd together, only duo"):
        submit(store, settings, "train", project.id, {"method": "esd", "processes": 2})
    # a studio with two GPUs still trains the other methods, on one
    esd = submit(store, replace(settings, processes=2), "train", project.id, {"method": "esd"})
    assert "processes" not in esd.config


def test_a_process_that_waits_for_the_first_one_leaves_when_the_job_has_ended(
    store: Store, settings: Settings, project: Project
) -> None:
    job = asked(store, settings, project, 2)
    left: queue.Queue[int] = queue.Queue()
    leave_after(settings, job.id, patience=0.05, leave=left.put)
    with pytest.raises(queue.Empty):
        left.get(timeout=0.2)
    store.update_job(job.id, state="stopped")
    assert left.get(timeout=10) == 0


@pytest.mark.slow
def test_two_processes_train_what_one_trains(store: Store, ready: Settings, project: Project) -> None:
    ready = replace(ready, trackers=("tensorboard",))
    runner = Runner(store, ready, interval=0.2)
    together, alone, shared = (
        runner.run_until_done(asked(store, ready, project, count, shard_base=on).id)
        for count, on in ((2, False), (1, False), (2, True))
    )
    assert (together.state, alone.state, shared.state) == ("done", "done", "done"), together.error + shared.error
    assert (together.step, together.total) == (6, 6)
    two, one, sharing = (
        load_file(store.get_checkpoint(job.result["checkpoint_id"]).path) for job in (together, alone, shared)
    )
    assert all(torch.allclose(sharing[name], value, atol=1e-4) for name, value in two.items())
    assert max(float(value.abs().max()) for name, value in one.items() if "lora_B" in name) > 1e-3
    assert all(torch.allclose(two[name], value, atol=1e-4) for name, value in one.items())
    losses = [[row["loss"] for row in store.job_metrics(job.id)] for job in (together, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert len(losses[0]) == 6
    assert workers_of(together) == []
    runs = [path.name for path in (ready.tracked / "tensorboard").iterdir()]
    assert len(runs) == 3, "each job has one run, whatever its processes"


@pytest.mark.slow
def test_two_processes_share_the_pairs(store: Store, ready: Settings, project: Project) -> None:
    store.add_prompt_pairs([PromptPair("", project.id, "a king with a sword", "a king", count=5)])
    runner = Runner(store, ready, interval=0.2)
    making = {"steps": 2, "filter_by_detector": False, "batch_size": 2, "processes": 2}
    made = runner.run_until_done(submit(store, ready, "pairs", project.id, making).id)
    assert made.state == "done", made.error
    assert made.result == {"ready": 9, "failed": 0}
    pairs = store.list_image_pairs(project.id)
    assert sorted((pair.prompt_pair_id, pair.index) for pair in pairs) == sorted(
        (prompt.id, index) for prompt in store.list_prompt_pairs(project.id) for index in range(prompt.count)
    )


@pytest.mark.slow
def test_two_processes_report_what_one_reports(store: Store, ready: Settings, project: Project) -> None:
    """Every number of report.json, of a protocol with what an attack found, each picture drawn anew."""
    values = {"generations": 1, "population": 4, "tokens": 2}
    attack = {"attack": "ring_a_bell", "values": values, "victims": ["original"], "n": 2, "fresh": 3, "steps": 2}
    attacked = run_job(submit(store, ready, "attack", project.id, attack).id, ready)
    assert attacked.state == "done", attacked.error
    asked = {"protocol": "i2p", "n": 3, "repeats": 3, "steps": 2, "batch_size": 4, "gallery": 1, "oracle": False}
    runner = Runner(store, ready, interval=0.2)
    reports, drawn = [], []
    for processes in (2, 1):
        config = {**asked, "attacks": [attacked.id], "processes": processes}
        job = runner.run_until_done(submit(store, ready, "evaluate", project.id, config).id)
        assert job.state == "done", job.error
        folder = Path(store.get_evaluation(job.result["evaluation_id"]).folder)
        reports.append(StudyReport.read(folder / "report.json").model_dump(exclude={"created", "command"}))
        drawn.append({path.name: path.read_bytes() for path in ready.drawn.rglob("*.png")})
        shutil.rmtree(ready.drawn)
    assert reports[0] == reports[1]
    assert drawn[0] == drawn[1], "the very pictures"
    assert reports[0]["attacks"][0]["fresh"]["original"]["prompts"] >= 2


@pytest.mark.slow
def test_a_killed_process_fails_the_job_leaves_no_orphan_and_the_job_resumes(
    store: Store, ready: Settings, project: Project
) -> None:
    job = asked(store, ready, project, 2, steps=4000)
    runner = Runner(store, ready, interval=0.2)
    runner.start()
    try:
        wait_for(lambda: store.get_job(job.id).step >= 3)
        first = store.get_job(job.id).pid
        launcher = next(p for p in workers_of(job) if "accelerate.commands.launch" in p.cmdline())
        other = next(p for p in launcher.children() if p.pid != first)
        os.kill(other.pid, signal.SIGKILL)
        wait_for(lambda: store.get_job(job.id).is_final)
        wait_for(lambda: workers_of(job) == [])
        failed = store.get_job(job.id)
        assert failed.state == "failed"
        assert "Another of the 2 processes" in failed.error or "Resume the job" in failed.error
        resume(store, ready, job.id)
        wait_for(lambda: store.get_job(job.id).step > failed.step)
        os.kill(next(p for p in workers_of(job) if "accelerate.commands.launch" in p.cmdline()).pid, signal.SIGKILL)
        wait_for(lambda: workers_of(job) == [])  # a killed launcher leaves nobody behind either
        wait_for(lambda: store.get_job(job.id).state == "failed")
    finally:
        runner.close()


@pytest.mark.slow
def test_two_processes_train_every_group(store: Store, ready: Settings, project: Project) -> None:
    (prompts,) = store.list_prompt_pairs(project.id)
    store.update_prompt_pair(prompts.id, group="blades")
    store.add_prompt_pairs([PromptPair("", project.id, "a pirate", "a baker", 4, 99, "sticks")])
    making = {"steps": 2, "filter_by_detector": False, "auto_accept": True}
    generate_pairs(context_of(store, ready, project, "pairs", making))
    runner = Runner(store, ready, interval=0.2)
    grouped = [asked(store, ready, project, count, steps=2, one_adapter_a_group=True) for count in (2, 1)]
    together, alone = (runner.run_until_done(job.id) for job in grouped)
    assert (together.state, alone.state) == ("done", "done"), together.error
    two, one = (load_file(store.get_checkpoint(job.result["checkpoint_id"]).path) for job in (together, alone))
    assert all(torch.allclose(two[name], value, atol=1e-4) for name, value in one.items())
    assert set(together.result) >= {"group-1", "group-2", "checkpoint_id"}
