"""The Report tab without a browser: figures, two runs side by side, evaluations, and what its routes give out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.configs import DemoConfig
from studio.inference.client import Cell, InferenceClient, ModelChoice, RenderRequest
from studio.jobs import Runner
from studio.records import Checkpoint, Evaluation, Job, Project, PromptPair
from studio.settings import Settings
from studio.store import Store
from studio.ui.context import Studio
from studio.ui.findings import findings, links
from studio.ui.pictures import report_url, routes
from studio.ui.report import ReportTab, _begin_demo
from studio.ui.results import Comparison
from tests.ui_data import add_evaluation

IDLE = ("-c", "pass")  # a worker that ends at once


@pytest.fixture
def studio(settings: Settings, store: Store) -> Iterator[Studio]:
    client = InferenceClient(settings)
    yield Studio(settings, store, Runner(store, settings, worker=IDLE), client)
    client.close()


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project(id="", name="Sword", concept="sword", checkpoint="toybox", detector="toybox"))


def add_checkpoint(store: Store, project: Project, method: str, name: str) -> Checkpoint:
    job = store.create_job(Job(id="", project_id=project.id, kind="train", config={}))
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return store.add_checkpoint(
        Checkpoint("", project.id, job.id, method, name, path=f"/data/{name}.safetensors", sha256=sha256, kind="lora")
    )


def comparison(*cells: Cell, models: list[ModelChoice] | None = None, prompts: tuple[str, ...] = ("a knight",)):
    models = models or [ModelChoice("Original", "toybox"), ModelChoice("DUO", "toybox", "/d", "ab" * 32)]
    return Comparison("sword", RenderRequest(models, list(prompts), [7]), cells)


def cell(model: int, found: bool, prompt: str = "a knight", **changes: Any) -> Cell:
    made = Cell(model, prompt, 7, "/x.png", f"{model:064x}", found, 0.97 if found else 0.01, seconds=0.4)
    return replace(made, **changes)


@pytest.fixture
def web(settings: Settings, store: Store) -> TestClient:
    return TestClient(Starlette(routes=routes(settings, store)))


# -- reports -----------------------------------------------------------------------------------------------------


@pytest.fixture
def evaluation(store: Store, settings: Settings, project: Project) -> Evaluation:
    return add_evaluation(store, settings, project)


def test_findings_give_rates_with_intervals_and_n(evaluation: Evaluation) -> None:
    text = findings(evaluation)
    assert "<b>1.5\u00a0%</b> 0.5–4.3, n = 200" in text
    assert "1 min 30 s" in text
    assert "a &lt;b&gt;" in text
    assert report_url(evaluation.id, "pictures/1.png", view=True) in text


def test_a_report_of_another_shape_is_an_error(evaluation: Evaluation) -> None:
    with pytest.raises(ValidationError):
        findings(replace(evaluation, report={"models": {}}))


def test_report_files_are_given_out_by_evaluation(evaluation: Evaluation, web: TestClient, tmp_path: Path) -> None:
    assert 'download="duo-report-' in links(evaluation)
    assert web.get("/" + report_url(evaluation.id, "report.json")).json()["concept"] == "sword"
    shown = web.get("/" + report_url(evaluation.id, "pictures/1.png", view=True))
    assert shown.headers["content-type"] == "image/webp"


@pytest.mark.parametrize("file", ["../../studio.db", "..%2f..%2fstudio.db", "%2fetc%2fpasswd", "pictures", "none.png"])
def test_nothing_beside_the_report_is_given_out(evaluation: Evaluation, web: TestClient, file: str) -> None:
    assert web.get("/" + report_url(evaluation.id, file)).status_code == 404
    assert web.get("/" + report_url("unknown", "report.json")).status_code == 404


def tab() -> ReportTab:
    """A tab of which only `refresh` is asked, which needs no components."""
    return ReportTab(*[None] * 7)  # type: ignore[arg-type]


def shown(updates: list[Any]) -> set[str]:
    """What is visible."""
    names = ("choice", "empty", "running", "stop", "resume", "start")
    return {name for name, update in zip(names, updates, strict=False) if update["visible"]}


def test_the_report_tab_follows_the_demo(studio: Studio, project: Project, evaluation: Evaluation) -> None:
    demo = studio.store.create_job(Job("", project.id, "demo", {}))
    page, view = tab(), replace(studio.view(project.id), jobs=(), evaluations=())
    before = shown(page.refresh(view, None))
    assert before == {"empty", "start"}
    during = shown(page.refresh(replace(view, jobs=(replace(demo, state="running"),)), None))
    assert during == {"running", "stop"}
    after = shown(page.refresh(replace(view, jobs=(replace(demo, state="failed", error="no memory"),)), None))
    assert after == {"empty", "running", "resume", "start"}
    done = page.refresh(replace(view, jobs=(replace(demo, state="done"),), evaluations=(evaluation,)), None)
    assert shown(done) == {"choice", "start"}
    assert done[0]["value"] == evaluation.id
    assert done[-1]["value"] == "Run the demo again"


def test_a_chosen_evaluation_stays_chosen(studio: Studio, project: Project, evaluation: Evaluation) -> None:
    view = replace(studio.view(project.id), evaluations=(evaluation, replace(evaluation, id="newer")))
    assert tab().refresh(view, None)[0]["value"] == "newer"
    assert tab().refresh(view, evaluation.id)[0]["value"] == evaluation.id


def test_the_demo_starts_once_and_in_an_empty_project(studio: Studio, project: Project) -> None:
    assert _begin_demo(studio, DemoConfig(n=50), project.id)["value"] == project.id
    assert _begin_demo(studio, DemoConfig(n=50), project.id)["value"] == project.id
    (job,) = studio.store.list_jobs()
    assert (job.kind, job.config["n"], job.project_id) == ("demo", 50, project.id)


def test_a_project_with_prompts_is_left_alone_by_the_demo(studio: Studio, project: Project) -> None:
    studio.store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener")])
    chosen = _begin_demo(studio, DemoConfig(), project.id)["value"]
    assert chosen != project.id
    assert [pair.project_id for pair in studio.store.list_prompt_pairs(chosen)][:1] == [chosen]
