"""The panel of what real attackers do, and the matrix of a transfer, without a browser."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.attack_costs import EMBEDDED
from studio.cli.stress import rates_table
from studio.records import Checkpoint, Job, Project, Trial
from studio.reports.trials import relearned_of
from studio.store import Store
from studio.stress_configs import GROUPS, StressConfig
from studio.stress_costs import cost_of
from studio.ui.attack_found import start_transfer
from studio.ui.context import Studio
from studio.ui.forms import FormError
from studio.ui.stress import StressPanel, start_stress, stress_panel, trial_routes
from studio.ui.trial_view import dots, matrix, stress_results
from tests.ui_data import add_checkpoint


@pytest.fixture
def panel(studio: Studio) -> StressPanel:
    with gr.Blocks():
        return stress_panel(studio, gr.Dropdown())


@pytest.fixture
def duo(store: Store, project: Project) -> Checkpoint:
    return add_checkpoint(store, project, "duo", "DUO")


@pytest.fixture
def job(store: Store, project: Project) -> Job:
    """A table of two models, invented."""
    job = store.create_job(Job("", project.id, "stress", {}))

    def add(condition: str, victim: str, found: int, **facts: Any) -> None:
        trial = Trial("", project.id, job.id, condition, victim, victim.title(), "ab" * 32, found, 10, facts)
        store.add_trial(trial)

    for victim, found, back in (("original", 10, True), ("duo", 0, False)):
        add("plain", victim, found, title="As it is", group="plain", back=back)
        add("int8", victim, found + 0, title="Weights in int8", group="int8", order=3)
    add("adapter 0.5", "duo", 6, title="Adapter at 0.5", group="adapter", order=1)
    course = {"group": "relearning", "course": "Trained on 5", "order": 4}
    add("relearn 5, step 10", "duo", 9, title="Trained on 5, 10 steps", step=10, back=True, **course)
    add("relearn 5, step 5", "duo", 2, title="Trained on 5, 5 steps", step=5, back=False, **course)
    return store.update_job(job.id, state="done")


def asked(panel: StressPanel, victims: list[str], groups: list[str]) -> list[Any]:
    return [victims, groups, *[component.value for component in panel.details.components]]


def test_a_job_is_queued_with_what_the_form_says(panel: StressPanel, duo: Checkpoint, studio: Studio) -> None:
    config = start_stress(studio, panel, duo.project_id, asked(panel, [duo.id], ["int8", "plain"])).config
    assert (config["victims"], config["groups"], config["n"]) == ([duo.id], ["plain", "int8"], 50)
    for wrong, words in (([], "No model"), ([duo.id], "Nothing is chosen")):
        with pytest.raises(FormError, match=words):
            start_stress(studio, panel, duo.project_id, asked(panel, wrong, []))


def test_the_cost_is_that_of_the_cells() -> None:
    plain = cost_of(StressConfig(groups=["plain", "int8", "adapter"], n=10), 2, toybox=True, speed=EMBEDDED)
    assert (plain.cells, plain.pictures, plain.steps) == (4 * 2 + 2 * 5, 180, 0)
    assert plain.seconds == pytest.approx(180 * 40 * EMBEDDED.forward)
    trained = cost_of(StressConfig(groups=["relearning"], beside=False), 1, toybox=True, speed=None)
    assert (trained.cells, trained.steps, trained.seconds) == (4 * 6, 4 * 200, None)
    whole = StressConfig()
    assert set(whole.groups) == set(GROUPS)


def test_the_table_the_figure_and_the_steps(job: Job, store: Store) -> None:
    trials = store.list_trials(job.project_id, job.id)
    text = stress_results(trials)
    assert "60 %<small>31–83, n = 10</small>" in text  # Wilson of 6 of 10
    assert text.index("Adapter at 0.5</th>") < text.index("Weights in int8</th>")
    (one,) = relearned_of(trials)
    assert one.steps == {"original": 0, "duo": 10}
    assert "0, it was never gone" in text
    assert "Adapter at 0.5: Duo 60 %" in dots(trials)
    assert "Trained on 5" in text
    assert rates_table(trials, "sword").row_count == 5
    bad = "<script>alert(1)</script>"
    wrong = [replace(trial, victim_name=bad, facts={**trial.facts, "title": bad}) for trial in trials]
    assert "<script" not in stress_results(wrong) + matrix(wrong)


def test_the_page_shows_the_newest_table_and_hands_it_out(
    panel: StressPanel, job: Job, studio: Studio, store: Store
) -> None:
    view = studio.view(job.project_id)
    shown = panel.refresh(view, None, None, *[None] * len(panel.asked))
    assert "Rate by condition" in shown[-1]
    assert panel.refresh(view, job.id, shown[3], *asked(panel, [], []))[-1] == gr.skip()
    web = TestClient(Starlette(routes=trial_routes(store)))
    assert len(web.get(f"/studio/trials/{job.id}.csv").text.splitlines()) == 8
    rows = json.loads(web.get(f"/studio/trials/{job.id}.json").text)
    assert (rows[0]["model"], rows[0]["rate"], rows[0]["n"]) == ("Original", 1.0, 10)
    assert web.get("/studio/trials/nothing.csv").status_code == 404


def test_the_matrix_marks_the_model_that_prompts_were_found_on(store: Store, project: Project) -> None:
    job = store.create_job(Job("", project.id, "transfer", {}))
    trials = [
        store.add_trial(Trial("", project.id, job.id, a, b, b.upper(), "", found, 10, {"title": a.upper()}))
        for a, b, found in (("a", "a", 8), ("a", "b", 2), ("b", "a", 1), ("b", "b", 9))
    ]
    text = matrix(trials)
    assert text.count("is-own") == 2
    assert 'class="is-own" style="--share:80%"' in text
    assert "20 %<small>6–51, n = 10</small>" in text


def test_a_public_demo_starts_nothing(panel: StressPanel, duo: Checkpoint, studio: Studio, store: Store) -> None:
    public = replace(studio, settings=replace(studio.settings, public_demo=True))
    with pytest.raises(FormError, match="public demo"):
        start_stress(public, panel, duo.project_id, asked(panel, [duo.id], ["plain"]))
    with pytest.raises(FormError, match="public demo"):
        start_transfer(public, duo.project_id, None, [duo.id])
    assert {one.kind for one in store.list_jobs()} == {"train"}
