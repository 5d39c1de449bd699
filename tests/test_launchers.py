"""Launchers in the small: what is asked of Hugging Face, what is taken from there, and what is refused.

A script plays the machine at the stand-in, and the attendant works in this process.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub_constants
import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from studio.cli import main
from studio.jobs import JobError, submit
from studio.launch_options import HfJobsOptions, OptionsError, read_options, write_options
from studio.launchers import hf_jobs
from studio.launchers.attend import attend, source_zip
from studio.launchers.events import event
from studio.launchers.hf_jobs import Machine, cost_words
from studio.records import ImagePair, Job, Project, PromptPair, Verdict
from studio.settings import REPOSITORY, Settings
from studio.store import Store
from tests.hub_server import TOKEN, Repository, send_to
from tests.jobs_server import Jobs, RemoteJob, jobs_server
from tests.launcher_data import CHECKPOINT, put_results

WHERE = {"launcher": "hf_jobs", "flavor": "t4-small", "timeout_minutes": 30}
EXAMPLES = REPOSITORY / "docs" / "launchers"


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    with jobs_server(tmp_path / "machines") as made:
        send_to(made.hub, monkeypatch, tmp_path / "no-login")
        monkeypatch.setattr(hf_jobs, "_seen", (0.0, []))
        monkeypatch.setattr("studio.launchers.attend.source_zip", lambda settings: b"source")
        yield made


def ask(store: Store, settings: Settings, project: Project, **where: Any) -> Job:
    asked = {"method": "uce", "name": "There", "where": WHERE | where}
    return submit(store, settings, "train", project.id, asked)


def there(jobs: Jobs, remote: RemoteJob) -> Repository:
    return jobs.hub.repositories[remote.asked["environment"]["DUO_STUDIO_REPOSITORY"]]


def works(jobs: Jobs, remote: RemoteJob, **results: Any) -> None:
    values = [{"step": 1, "loss": 0.5}]
    remote.say("a line for people", event(step=1, total=2, message="half", eta=3.0, metrics=values))
    job_id = remote.asked["labels"]["duo-studio-job"]
    put_results(there(jobs, remote), job_id, remote.say, **results)
    remote.end("COMPLETED")


def test_what_is_asked_for_and_what_comes_back(
    store: Store, settings: Settings, project: Project, jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    packed: list[dict[str, bytes]] = []

    def script(jobs: Jobs, remote: RemoteJob) -> None:
        packed.append(dict(there(jobs, remote).files))
        assert there(jobs, remote).private
        works(jobs, remote)

    jobs.script = script
    job = ask(store, settings, project)
    done = attend(store, settings, job.id, interval=0.05)
    assert done.state == "done", done.error
    asked = jobs.last.asked
    assert (asked["flavor"], asked["timeoutSeconds"], asked["dockerImage"]) == ("t4-small", 1800, "python:3.12")
    assert asked.pop("secrets") == {"HF_TOKEN": TOKEN}
    assert TOKEN not in json.dumps(asked), "the token is in the secrets alone"
    assert set(packed[0]) == {"inputs.zip", "source.zip"}
    saved = store.get_checkpoint(CHECKPOINT)
    assert Path(saved.path) == settings.checkpoints / job.id / "adapter.safetensors"
    assert done.result["checkpoint_id"] == CHECKPOINT
    assert store.job_metrics(job.id) == [{"step": 1, "loss": 0.5}]
    assert (done.step, done.total) == (1, 2)
    assert jobs.hub.repositories == {}
    told = capsys.readouterr()
    assert "a line for people" in told.out
    assert TOKEN not in told.out + told.err + json.dumps(done.place) + json.dumps(done.config)


@pytest.mark.parametrize(
    ("results", "words"),
    [({"adapter": b"\x80\x04cbuiltins\nexec\n"}, "is no safetensors file"),
     ({"job": "another"}, "is that of job another"),
     ({"config": 1}, "cannot be used: config"), ({"checkpoints": []}, "cannot be used: checkpoints"),
     ({"result": {"checkpoint_id": "f" * 12}}, None), ({"more": 1}, "cannot be used: more")],
)  # fmt: skip
def test_results_that_are_not_as_they_must_be_are_not_kept(
    store: Store, settings: Settings, project: Project, jobs: Jobs, results: dict[str, Any], words: str | None
) -> None:
    jobs.script = lambda jobs, remote: works(jobs, remote, **results)
    failed = attend(store, settings, ask(store, settings, project).id, interval=0.05)
    assert failed.state == "failed"
    assert (words or "names no checkpoint that came with it") in failed.error
    assert store.list_checkpoints(project.id) == []
    assert not (settings.checkpoints / failed.id).exists()


def test_what_was_changed_on_its_way_is_not_kept(
    store: Store, settings: Settings, project: Project, jobs: Jobs
) -> None:
    def script(jobs: Jobs, remote: RemoteJob) -> None:
        name = "results/result.json" if len(jobs.jobs) == 1 else f"results/adapters/{CHECKPOINT}.safetensors"
        put_results(there(jobs, remote), job.id, remote.say)
        there(jobs, remote).files[name] = there(jobs, remote).files[name] + b" "
        remote.end("COMPLETED")

    jobs.script = script
    job = ask(store, settings, project)
    assert "was changed on its way" in attend(store, settings, job.id, interval=0.05).error
    store.requeue_job(job.id)
    again = attend(store, settings, job.id, interval=0.05)
    assert "The adapter 'There' has the SHA-256" in again.error
    assert len(jobs.jobs) == 2, "it was trained again"
    assert store.list_checkpoints(project.id) == []


def test_how_a_training_there_fails_is_told(store: Store, settings: Settings, project: Project, jobs: Jobs) -> None:
    ends = {"timeout": ("ERROR", "Job timeout"), "cancel": ("CANCELED", None), "broken": ("ERROR", "Exit code 3")}
    words = {"timeout": "after its time-out of 30 minutes. Resume the job",
             "cancel": "canceled at Hugging Face, not from here",
             "broken": "ended with an error (Exit code 3)"}  # fmt: skip
    job = ask(store, settings, project)
    for how, end in ends.items():
        jobs.script = lambda _, remote, end=end: remote.end(*end)
        failed = attend(store, settings, job.id, interval=0.05)
        assert (failed.state, words[how] in failed.error) == ("failed", True), failed.error
        store.requeue_job(job.id)
    assert len(jobs.jobs) == 3, "each time it was resumed it was started anew"
    jobs.refuses = (402, "Payment required: add credit")
    refused = attend(store, settings, job.id, interval=0.05)
    assert "did not take the training (t4-small, paid by me): " in refused.error
    assert "add credit" in refused.error
    assert "then resume the job" in refused.error


def test_a_job_that_was_started_but_not_written_down_is_found_by_its_label(
    store: Store, settings: Settings, project: Project, jobs: Jobs
) -> None:
    jobs.script = works
    job = ask(store, settings, project)
    jobs.hub.repositories["me/duo-studio-" + job.id] = Repository(True)
    store.update_job(job.id, place={**job.place, "namespace": "me", "repository": "me/duo-studio-" + job.id})
    begun = threading.Event()
    jobs.script = lambda jobs, remote: (begun.wait(20), works(jobs, remote), None)[-1]
    environment = {"DUO_STUDIO_REPOSITORY": "me/duo-studio-" + job.id}
    remote = jobs.start({"command": ["true"], "labels": {"duo-studio-job": job.id}, "environment": environment})
    begun.set()
    done = attend(store, settings, job.id, interval=0.05)
    assert (done.state, done.place["remote_id"]) == ("done", remote.id), done.error
    assert len(jobs.jobs) == 1


def test_a_public_repository_gets_nothing(store: Store, settings: Settings, project: Project, jobs: Jobs) -> None:
    job = ask(store, settings, project)
    jobs.hub.repositories["me/duo-studio-" + job.id] = Repository(private=False)
    failed = attend(store, settings, job.id, interval=0.05)
    assert "is there already and is public" in failed.error
    assert jobs.hub.repositories["me/duo-studio-" + job.id].files == {}
    assert jobs.jobs == {}


def test_clean_deletes_what_trainings_left_on_the_hub_and_nothing_that_is_needed(
    store: Store, settings: Settings, project: Project, jobs: Jobs, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)

    def left(state: str, days: float, *, running: bool = False) -> str:
        job = ask(store, settings, project)
        remote = jobs.jobs[job.id] = RemoteJob(job.id, {"command": []}, stage="RUNNING" if running else "ERROR")
        place = {**job.place, "repository": f"me/duo-studio-{job.id}", "remote_id": remote.id, "namespace": "me",
                 "ended": False}  # fmt: skip
        ended = time.time() - days * 86_400
        store.update_job(job.id, state=state, place=place, finished=ended)
        jobs.hub.repositories[place["repository"]] = Repository(private=True)
        return str(place["repository"])

    done, stopped, lately = left("done", 40), left("stopped", 40), left("failed", 3)
    running = left("failed", 40, running=True)
    assert main(["clean", "--dry-run", "--resumable"]) == 0
    told = capsys.readouterr().out
    assert f"Would delete {done}" in told
    assert f"Would delete {stopped}" in told
    assert set(jobs.hub.repositories) == {done, stopped, lately, running}
    main(["clean"])
    assert f"Kept {stopped}" in capsys.readouterr().out
    assert set(jobs.hub.repositories) == {stopped, lately, running}
    main(["clean", "--resumable"])
    assert set(jobs.hub.repositories) == {lately, running}, "one is recent, the other may be at work"
    main(["clean", "--resumable"])
    assert "hub" not in (told := capsys.readouterr().out.split("Freed")[-1]), told
    store.update_job(done.removeprefix("me/duo-studio-"), place={"repository": "me/valuable", "ended": True})
    jobs.hub.repositories["me/valuable"] = Repository(private=True)
    main(["clean", "--resumable"])
    assert "me/valuable" in jobs.hub.repositories, "it is no training's own"
    jobs.script = works
    again = store.requeue_job(stopped.removeprefix("me/duo-studio-"))
    assert attend(store, settings, again.id, interval=0.05).state == "done", "resumed, it begins anew"


def test_only_what_training_needs_is_packed(store: Store, settings: Settings, project: Project, tmp_path: Path) -> None:
    from studio.launchers.parcel import pack, unpack

    store.add_prompt_pairs([PromptPair("", project.id, "a knight with a sword", "a cook", count=2)])
    prompts = store.list_prompt_pairs(project.id)[0]
    for index, verdict in enumerate(("accept", "reject")):
        pair = store.add_image_pair(ImagePair("", project.id, prompts.id, index, index, "ready", "a" * 64, "b" * 64))
        store.add_verdict(Verdict("", pair.id, "Ann Smith", verdict, reason="a private word"))  # type: ignore[arg-type]
        (settings.latents / f"{pair.id}-{'b' * 12}.safetensors").write_bytes(b"latents")
    job = submit(store, settings, "train", project.id, {"method": "duo", "config": {"batch_size": 1}})
    pack(store, settings, job, tmp_path / "inputs.zip")
    with zipfile.ZipFile(tmp_path / "inputs.zip") as archive:
        names, rows = archive.namelist(), archive.read("rows.json").decode()
    accepted = store.accepted_pairs(project.id)[0].id
    assert sorted(names) == [f"latents/{accepted}-{'b' * 12}.safetensors", "parcel.json", "rows.json"]
    assert "Ann Smith" not in rows
    assert "private word" not in rows
    far = replace(settings, data=tmp_path / "far")
    far.create_folders()
    other = Store(far.database)
    unpacked = unpack(tmp_path / "inputs.zip", other, far, tmp_path).job
    assert (unpacked.id, unpacked.config, unpacked.launcher) == (job.id, job.config, "local")
    assert [pair.id for pair in other.accepted_pairs(project.id)] == [accepted]
    other.close()


def test_the_source_that_is_sent_is_this_one_without_data(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "source.zip").write_bytes(source_zip(settings))
    with zipfile.ZipFile(tmp_path / "source.zip") as archive:
        names = set(archive.namelist())
    assert {"requirements.txt", "studio/launchers/far.py", "studio/cli/remote.py", "models/loading.py"} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", ".")) or name.endswith(".db")]


def test_the_command_is_a_script_that_bash_can_read() -> None:
    done = subprocess.run(["bash", "-n", "-c", hf_jobs.COMMAND.format(hub="2.4.0")], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"timeout_minutes": 0}, "timeout_minutes is 0; it must lie between 1"),
     ({"timeout_minutes": None, "flavor": "T4 big"}, "flavor is 'T4 big'"),
     ({"namespace": "a/b"}, "namespace is 'a/b'"),
     ({"gpus": 3}, "no 'gpus'"), ({"launcher": "ssh"}, "no launcher 'ssh'; use local, accelerate, hf_jobs")],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_refused_at_once(
    store: Store, settings: Settings, project: Project, jobs: Jobs, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(JobError, match=words.replace("(", r"\(")):
        ask(store, settings, project, **asked)
    assert store.list_jobs() == []


def test_only_trainings_go_there_and_only_with_a_token(
    store: Store, settings: Settings, project: Project, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobError, match="Hugging Face Jobs takes trainings alone, no 'pairs'"):
        submit(store, settings, "pairs", project.id, {"where": WHERE})
    there = replace(settings, launcher="hf_jobs")
    assert submit(store, there, "pairs", project.id, {}).launcher == "local"
    assert submit(store, there, "train", project.id, {"method": "uce"}).launcher == "hf_jobs"
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(JobError, match="hf auth login"):
        ask(store, settings, project)


def test_what_it_costs_is_told_before(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    options = HfJobsOptions(flavor="t4-small", timeout_minutes=90)
    known = hf_jobs.machines()
    assert cost_words(options, known) == (
        "t4-small (4 vCPU, 15 GB, 1 x T4 16 GB) costs $0.40 an hour. Hugging Face ends it after 90 minutes, so it "
        "costs $0.60 at most."
    )
    assert "t9 is not on its list of machines: see https://huggingface.co/docs/hub/jobs-pricing" in cost_words(
        replace(options, flavor="t9"), known
    )
    monkeypatch.setattr(hf_jobs, "_seen", (0.0, []))
    monkeypatch.setattr(hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    assert hf_jobs.machines() == []
    assert "it could not be asked for its prices" in cost_words(options, [])
    assert "$" not in cost_words(options, [Machine("t4-small", "T4", "", None)])


def test_the_shell_tells_the_cost_and_starts_there(
    store: Store, settings: Settings, project: Project, jobs: Jobs, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("DUO_STUDIO_DATA", str(settings.data))
    monkeypatch.setattr("studio.cli.work._run", lambda *asked: asked_for.append(asked[4]) or SystemExit)
    asked_for: list[dict[str, Any]] = []
    with pytest.raises(Exception, match="result"):
        main(["train", "uce", "-p", project.name, "--where", "hf_jobs", "--flavor", "t4-small", "--timeout", "60"])
    assert "so it costs $0.40 at most." in capsys.readouterr().out
    assert asked_for[0]["where"] == {"launcher": "hf_jobs", "flavor": "t4-small", "timeout_minutes": 60.0}
    assert main(["remote", "machines"]) == 0
    assert "t4-small" in capsys.readouterr().out


def test_options_are_read_from_one_setting() -> None:
    options = read_options("flavor=l4x1, timeout_minutes=45.5, namespace=team")
    assert (options.flavor, options.timeout_minutes, options.namespace) == ("l4x1", 45.5, "team")
    assert read_options(write_options(options)) == options
    with pytest.raises(OptionsError, match="no 'flavour'; use flavor"):
        read_options("flavour=l4x1")


def test_the_example_for_two_machines_is_read_by_accelerate_itself(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    example = EXAMPLES / "two-nodes.yaml"
    config = load_config_from_file(str(example))
    assert (config.num_machines, config.num_processes, config.main_process_port) == (2, 16, 29500)
    assert config.distributed_type == "MULTI_GPU"
    there = {"launcher": "accelerate", "config_file": str(example)}
    asked = {"method": "duo", "processes": 16, "config": {"batch_size": 32}}
    job = submit(store, settings, "train", project.id, {**asked, "where": there})
    assert job.place == {"config_file": str(example)}
    by_setting = submit(store, replace(settings, accelerate_config=example), "train", project.id, asked)
    assert (by_setting.launcher, by_setting.place) == ("accelerate", job.place)
    with pytest.raises(JobError, match="starts 16 processes, but the job is for 2"):
        submit(store, settings, "train", project.id, {**asked, "processes": 2, "where": there})
    config = {"batch_size": 32, "one_adapter_a_group": True}
    with pytest.raises(JobError, match="one adapter after the other"):
        submit(store, settings, "train", project.id, {**asked, "config": config, "where": there})
    (tmp_path / "no.yaml").write_text("num_processes: many")
    bad = {"launcher": "accelerate", "config_file": str(tmp_path / "no.yaml")}
    with pytest.raises(JobError, match="num_processes 'many'; it must be a whole number"):
        submit(store, settings, "train", project.id, {**asked, "where": bad})


def test_the_example_for_skypilot_has_the_fields_of_a_task_and_commands_that_exist() -> None:
    task = yaml.safe_load((EXAMPLES / "skypilot.yaml").read_text(encoding="utf-8"))
    assert task.keys() <= {
        "name",
        "num_nodes",
        "resources",
        "workdir",
        "envs",
        "secrets",
        "file_mounts",
        "setup",
        "run",
    }
    assert task["resources"].keys() <= {"accelerators", "cpus", "memory", "disk_size", "use_spot", "image_id", "cloud"}
    assert all(isinstance(value, str) for value in task["envs"].values())
    for script in (task["setup"], task["run"]):
        assert subprocess.run(["bash", "-n", "-c", script], capture_output=True, check=False).returncode == 0
    options = [word for word in task["run"].split() if word.startswith("--")]
    assert options == ["--inputs", "--out", "--accelerate-config", "--machine-rank"]
    assert "docs/launchers/two-nodes.yaml" in task["run"]
    assert main(["remote", "run", "--help"]) == 0
