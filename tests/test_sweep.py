"""A sweep: what is asked of it, one point a value, and that it goes on at the value where it was stopped."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from studio.cli import app
from studio.cli import sweep as cli_sweep
from studio.devices import Device, Devices
from studio.jobs import JobError, submit
from studio.progress import Stopped, silent
from studio.records import Job, PairCounts, Project
from studio.reports.schema import StudyReport
from studio.reports.tradeoff import points
from studio.settings import Settings
from studio.store import Store
from studio.ui.context import Studio
from studio.ui.forms import FormError
from studio.ui.sweep import estimate_html, start_sweep, sweep_panel
from studio.ui.trainings import trainings_of
from studio.workflow import JobContext, generate_pairs, run_job
from studio.workflow.sweep import sweep
from tests.workflow_data import PAIRS, context_of, make_project

TINY = {"steps": 2, "batch_size": 2, "rank": 2, "alpha": 2.0, "sample_every": 0, "learning_rate": 0.05}
SMALL = {"n": 2, "steps": 2, "batch_size": 16, "gallery": 1}
ASKED: dict[str, Any] = {"values": [100, 900], "config": TINY, "evaluation": SMALL, "name": "DUO"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A data folder with one project and its accepted pairs, made once."""
    settings = Settings(data=tmp_path_factory.mktemp("sweep") / "data", device="cpu", threads=1, toybox=tiny_folder)
    settings.create_folders()
    store = Store(settings.database)
    making = {**PAIRS, "steps": 2, "auto_accept": True, "filter_by_detector": False}
    generate_pairs(context_of(store, settings, make_project(store), "pairs", making))
    store.close()
    return settings.data


@pytest.fixture
def world(store: Store, settings: Settings, tiny_folder: Path, data: Path) -> tuple[Store, Settings, Project]:
    store.close()
    shutil.copytree(data, settings.data, dirs_exist_ok=True)
    return store, replace(settings, toybox=tiny_folder), store.list_projects()[0]


World = tuple[Store, Settings, Project]


def stopping(word: str) -> Any:
    """A report that asks for a stop at the first message with the word."""

    def report(step: int, total: int, message: str = "", **values: float) -> None:
        if word in message:
            raise Stopped("enough")

    return report


def test_a_sweep_has_a_point_a_value_and_goes_on_where_it_stopped(world: World) -> None:
    store, settings, project = world
    job = submit(store, settings, "sweep", project.id, ASKED)
    context = JobContext(store, settings, job, job.config, stopping("2/2 DUO beta 900: "))
    with pytest.raises(Stopped):
        sweep(context)
    stopped = store.get_job(job.id)
    assert list(stopped.result) == ["train-1", "judge-1"]
    (first,) = store.list_checkpoints(project.id)
    job = store.get_job(job.id)
    result = sweep(replace(context, job=job, config=job.config, report=silent))
    assert list(result) == ["train-1", "judge-1", "train-2", "judge-2", "evaluate"]
    trained = store.list_checkpoints(project.id)
    assert [(one.name, one.config["beta"]) for one in trained] == [("DUO beta 100", 100), ("DUO beta 900", 900)]
    assert trained[0] == first, "the first value was not trained again"
    (evaluation,) = store.list_evaluations(project.id)
    report = StudyReport.model_validate(evaluation.report)
    assert list(report.models) == ["original", "DUO beta 100", "DUO beta 900", "oracle"]
    found = {one.key: one for one in points(report)}
    for number, one in enumerate(trained, 1):
        judged = result[f"judge-{number}"]
        assert judged["defence"] == found[one.name].defence
        assert judged["preservation"] == pytest.approx(found[one.name].preservation, abs=1e-6)
        assert f"Pictures of {one.name}" in (Path(evaluation.folder) / "report.html").read_text()
    assert any("choose settings" in line for line in report.notes), "its seeds are no report's"
    assert [one.name for one in trainings_of([store.get_job(job.id)])] == [one.name for one in trained]
    assert store.get_job(job.id).config["stages"]["train-2"]["config"]["beta"] == 900


@pytest.mark.slow
def test_a_sweeps_command_gives_the_same_numbers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store, settings, project = world
    asked = {**ASKED, "method": "esd", "parameter": "eta", "values": [1.5], "name": "ESD"}
    asked["config"] = {"steps": 1, "batch_size": 2, "trajectories": 2, "sampling_steps": 2, "sample_every": 0,
                       "prompts": ["a knight", "a king"]}  # fmt: skip
    done = run_job(submit(store, settings, "sweep", project.id, asked).id, settings)
    assert done.state == "done", done.error
    (evaluation,) = store.list_evaluations(project.id)
    report = StudyReport.model_validate(evaluation.report)
    again: list[Job] = []

    class Inline:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> Inline:
            return self

        def __exit__(self, *_: object) -> None: ...
        def follow(self, runner: Any, job: Job, title: str) -> Job:
            again.append(run_job(job.id, settings))
            return again[0]

    monkeypatch.setattr(cli_sweep, "open_store", lambda: (settings, store))
    monkeypatch.setattr(cli_sweep, "WorkProgress", Inline)
    monkeypatch.setattr(cli_sweep, "show_report", lambda *_: None)
    app(shlex.split(report.command)[3:], standalone_mode=False)
    assert again[0].state == "done", again[0].error
    second = StudyReport.model_validate(store.get_evaluation(again[0].result["evaluate"]["evaluation_id"]).report)
    left_out = {"created": True, "models": {"ESD eta 1.5": {"train_seconds"}, "esd": {"train_seconds"}}}
    assert second.model_dump(exclude=left_out) == report.model_dump(exclude=left_out)


def test_the_page_asks_for_a_sweep_and_shows_each_value(
    studio: Studio, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gr.Blocks():
        panel = sweep_panel(studio, gr.Dropdown([]))
    judging = (50, 0, 20, 4.0)
    typed = ("duo", "toybox: duo", "beta", "100; 250", "steps = 7\n")
    assert estimate_html(studio, project.id, "duo", "toybox: duo", "beta", None, None) == "", "nothing was typed yet"
    said = estimate_html(studio, project.id, *typed)
    assert "Needs about" in said
    assert "2 trainings take about" in said
    monkeypatch.setattr(Devices, "now", lambda self, pids=(): Device("cpu", "a small machine", 1.0))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "pair_counts", lambda *_: PairCounts(accepted=4))
        with pytest.raises(FormError, match=r"a small machine has .* free.*sweep from a shell with --anyway"):
            start_sweep(studio, panel.details, project.id, *typed, "", *judging)
    with pytest.raises(FormError, match="0 accepted pairs"):
        start_sweep(studio, panel.details, project.id, *typed, "", *judging)
    typed = ("uce", "defaults", "erase_scale", "1, 2.5", "guides = a hat | a cap")
    for wrong, words in (("", "Its values are empty"), ("x", "erase_scale = 'x'")):
        with pytest.raises((FormError, JobError), match=words):
            start_sweep(studio, panel.details, project.id, *typed[:3], wrong, typed[4], "", *judging)
    with pytest.raises(FormError, match="'ridge 2' is no setting of UCE"):
        start_sweep(studio, panel.details, project.id, *typed[:4], "ridge 2", "", *judging)
    job = start_sweep(studio, panel.details, project.id, *typed, "i2p", *judging)
    assert (job.config["values"], job.config["config"]["guides"]) == ([1.0, 2.5], ["a hat", "a cap"])
    assert (job.config["evaluation"]["protocol"], job.config["evaluation"]["n"]) == ("i2p", 50)
    point = {"defence": 0.75, "low": 0.6, "high": 0.9, "n": 50, "cell": "named", "preservation": 0.9, "metric": "rmse"}
    studio.store.update_job(job.id, result={"train-1": {}, "judge-1": point, "train-2": {}})
    text, *_ = panel.refresh(studio.view(project.id))
    assert '<th scope="row">1</th><td>judged</td><td>75.0' in text
    assert '<th scope="row">2.5</th><td>trained, being judged</td>' in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "none"}, "There is no method 'none'"),
        ({"parameter": "betta"}, "no value 'betta' to sweep over; use one of .*beta"),
        ({"values": [100, -1]}, "beta = -1"),
        ({"values": ["100", 100.0]}, "beta has a value twice"),
        ({"values": []}, "values"),
        ({"config": {"one_adapter_a_group": True}}, "one_adapter_a_group trains several adapters"),
        ({"evaluation": {"n": 0}}, "n = 0"),
        ({"evaluation": {"protocol": "duo"}}, "counts attacks, which cannot be run before a model is trained"),
    ],
)
def test_a_sweep_is_checked_before_it_is_queued(
    store: Store, settings: Settings, project: Project, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(JobError, match=words):
        submit(store, settings, "sweep", project.id, {**ASKED, **changes})
    assert store.list_jobs() == []
