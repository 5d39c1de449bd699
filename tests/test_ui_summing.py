"""The panel that sums adapters, without a browser: what it offers, starts, refuses and says."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
import pytest

from studio.records import Project
from studio.store import Store
from studio.ui.context import Studio
from studio.ui.forms import FormError
from studio.ui.summing import MOST, SumPanel, start_sum, sum_panel
from tests.ui_data import add_checkpoint


@pytest.fixture
def panel(studio: Studio) -> SumPanel:
    with gr.Blocks():
        return sum_panel(studio, gr.Dropdown())


def padded(*values: str, fill: str = "") -> list[str]:
    return [*values, *[fill] * (MOST - len(values))]


def test_models_of_projects_about_the_same_checkpoint_are_offered(
    panel: SumPanel, studio: Studio, store: Store, project: Project
) -> None:
    mine = add_checkpoint(store, project, "duo", "mine")
    cane = store.create_project(replace(project, id="", name="Cane"))
    theirs = add_checkpoint(store, cane, "duo", "theirs")
    add_checkpoint(store, store.create_project(replace(project, id="", checkpoint="/own")), "duo", "foreign")
    view = studio.view(project.id)
    box, first, second, *_ = panel.refresh(view, mine.id, "gone", *[None] * (MOST - 2))
    assert box["visible"]
    assert [text.split(" · ")[0] for text, _ in first["choices"]] == ["none", "mine", "Cane: theirs"]
    assert (first["value"], second["value"]) == (mine.id, "")
    assert theirs.id in [key for _, key in first["choices"]]


def test_a_single_model_is_nothing_to_sum(panel: SumPanel, studio: Studio, store: Store, project: Project) -> None:
    add_checkpoint(store, project, "duo", "mine")
    assert not panel.refresh(studio.view(project.id), *[None] * MOST)[0]["visible"]


def test_what_is_chosen_is_summed(panel: SumPanel, studio: Studio, store: Store, project: Project) -> None:
    one, two = add_checkpoint(store, project, "duo", "one"), add_checkpoint(store, project, "duo", "two")
    job = start_sum(
        studio, panel, project.id, " both ", padded(one.id, "", two.id), padded("1", "x", " -0.5", fill="1")
    )
    assert store.get_job(job.id).config == {
        "parts": [{"checkpoint_id": one.id, "weight": 1.0}, {"checkpoint_id": two.id, "weight": -0.5}],
        "name": "both",
    }
    store.update_job(job.id, state="queued")
    assert " in the queue: waits for Train" in panel.refresh(studio.view(project.id), *[None] * MOST)[-1]
    made = add_checkpoint(store, project, "duo", "b<o>th")
    store.update_job(job.id, state="done", result={"checkpoint_id": made.id})
    said = panel.refresh(studio.view(project.id), *[None] * MOST)[-1]
    assert "b&lt;o&gt;th" in said
    assert 'data-open-tab="Compare"' in said
    store.update_job(job.id, state="failed", error="one was trained on other weights.")
    assert "other weights" in panel.refresh(studio.view(project.id), *[None] * MOST)[-1]


def test_what_cannot_be_summed_is_said_before_anything_starts(
    panel: SumPanel, studio: Studio, store: Store, project: Project
) -> None:
    one, two = add_checkpoint(store, project, "duo", "one"), add_checkpoint(store, project, "duo", "two")
    jobs = len(store.list_jobs())
    for models, weights, words in (
        ([], [], "No models chosen"),
        ([one.id], ["1"], "1 model chosen"),
        ([one.id, one.id], ["1", "1"], "one is chosen twice"),
        ([one.id, two.id], ["1", "half"], "weight of two is half"),
        ([one.id, two.id], ["1", "0"], "weight of two is 0"),
        ([one.id, two.id], ["", "1"], "weight of one is empty"),
    ):
        with pytest.raises(FormError, match=words):
            start_sum(studio, panel, project.id, "", padded(*models), padded(*weights, fill="1"))
    assert len(store.list_jobs()) == jobs
