"""The section "Make the pictures" without a browser: what it says, shows and offers for each state of the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr
import pytest

from studio.configs import PairsConfig
from studio.records import ImagePair, Job, PairCounts, Project, PromptPair, Verdict
from studio.store import Store
from studio.ui.context import Studio
from studio.ui.generate import (
    GenerateSection,
    can_go_on,
    first_values,
    generate_section,
    make_pairs,
    making,
    seconds_a_pair,
)
from studio.ui.making_view import SHOWN_PAIRS, arriving, failures, plan, progress
from studio.ui.pair_pictures import pair_picture_url


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox", {"threshold": 0.7}))


@pytest.fixture
def prompts(store: Store, project: Project) -> PromptPair:
    return store.add_prompt_pairs([PromptPair("", project.id, "a <knight>", "a gardener", count=5)])[0]


@pytest.fixture
def section(studio: Studio) -> GenerateSection:
    with gr.Blocks():
        return generate_section(studio, gr.Dropdown())


def add_pairs(store: Store, prompts: PromptPair, ready: int, failed: int = 0) -> list[ImagePair]:
    states = ["ready"] * ready + ["failed"] * failed
    return [
        store.add_image_pair(
            ImagePair("", prompts.project_id, prompts.id, index, index, state, "a" * 64, "b" * 64, 0.7, 2, 0.9, 0.1,
                      reason="In 6 tries no edit was without the sword." if state == "failed" else "")  # type: ignore[arg-type]
        )
        for index, state in enumerate(states)
    ]  # fmt: skip


def add_job(store: Store, project: Project, state: str, **changes: Any) -> Job:
    job = store.create_job(Job("", project.id, "pairs", PairsConfig().model_dump()))
    return store.update_job(job.id, state=state, **changes)


def shown(section: GenerateSection, values: list[Any]) -> dict[str, Any]:
    """The parts' new values by their names."""
    names = ("plan", "go", "retry", "stop", "resume", "said", "progress", "arriving", "failed_box", "failed")
    return dict(zip(names, values[-len(names) :], strict=True))


def buttons(section: GenerateSection, studio: Studio, project: Project) -> list[str]:
    parts = shown(section, section.refresh(studio.view(project.id), None))
    return [name for name in ("go", "retry", "stop", "resume") if parts[name]["visible"]]


# -- what it says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "missing", "pace", "words"),
    [
        (PairCounts(), 0, None, "There are no prompts yet"),
        (PairCounts(wanted=96, ready=30), 66, 2.0, "96 pairs are wanted, 30 are there: <b>66 to make</b>, about 2 min"),
        (PairCounts(wanted=96), 96, None, "96 pairs are wanted: <b>96 to make</b>."),
        (PairCounts(wanted=1, ready=1), 0, 2.0, "1 pair is wanted, 1 is there: none is missing."),
        (PairCounts(wanted=9, ready=5, failed=3), 1, 2.0, "5 are there, 3 failed: <b>1 to make</b>, a few seconds"),
    ],
)
def test_the_plan_counts_and_gives_a_time_only_where_one_was_measured(
    counts: PairCounts, missing: int, pace: float | None, words: str
) -> None:
    assert words in plan(counts, missing, pace)


def test_the_pace_is_that_of_the_last_run(studio: Studio, store: Store, project: Project, prompts: PromptPair) -> None:
    assert seconds_a_pair(store, studio.view(project.id)) is None
    pairs = add_pairs(store, prompts, 4)
    begun = min(pair.created for pair in pairs)
    add_job(store, project, "done", started=begun - 9, finished=begun - 5)  # made nothing
    add_job(store, project, "done", started=begun - 4, finished=pairs[-1].created + 4)
    assert seconds_a_pair(store, studio.view(project.id)) == pytest.approx(2, abs=0.1)


def test_the_progress_says_how_it_ended_and_what_comes_next(store: Store, project: Project) -> None:
    counts = PairCounts(wanted=5, ready=4, failed=1)
    job = add_job(store, project, "running", step=2, total=5, eta_seconds=65.0, message="2 of 5 pairs")
    assert "40 % done · about 1 min 5 s left" in progress(job, "", counts)
    assert "It stops" in progress(replace(job, state="stopping"), "", counts)
    assert "Number 2 in the queue" in progress(replace(job, state="queued"), "Number 2 in the queue", counts)
    stopped = progress(replace(job, state="stopped"), "", counts)
    assert "Stopped at 2 of 5 pairs." in stopped
    assert "The worker died." in progress(replace(job, state="failed", error="The worker died."), "", counts)
    done = progress(replace(job, state="done", result={"ready": 4, "failed": 1}), "", counts)
    assert "4 ready, 1 failed" in done
    assert all('data-open-tab="Curate"' in text and "4 wait for a decision" in text for text in (stopped, done))
    assert "Curate" not in progress(replace(job, state="done"), "", replace(counts, accepted=4))
    again = replace(job, state="done", result={"remade": ["a", "b"], "not_remade": {"c": 6}})
    assert "2 pairs made again; 1 pair did not come out and stay" in progress(again, "", counts)


def test_pairs_arrive_two_by_two_as_curation_shows_them(store: Store, project: Project, prompts: PromptPair) -> None:
    (pair,) = add_pairs(store, prompts, 1)
    text = arriving(project, [pair], {prompts.id: prompts})
    for side in ("unsafe", "safe"):
        assert pair_picture_url(project, pair, side).replace("&", "&") in text
    assert pair.unsafe_image not in text
    assert text.index("is-seen") < text.index("is-gone")
    assert "a &lt;knight&gt;" in text
    assert "<knight>" not in text
    assert "2 tries" in text
    sensitive = arriving(replace(project, blur=True), [pair], {prompts.id: prompts})
    assert "after its notice" in sensitive
    assert "<img" not in sensitive
    assert "knight" not in sensitive
    assert arriving(project, [], {}) == ""


def test_failures_are_listed_with_their_reasons(store: Store, prompts: PromptPair) -> None:
    lost = add_pairs(store, prompts, 0, 2)
    text = failures(lost, {prompts.id: prompts}, 7)
    assert text.count("In 6 tries no edit was without the sword.") == 2
    assert "5 older" in text


# -- what it offers ----------------------------------------------------------------------------------------------


def test_each_state_has_its_buttons(
    section: GenerateSection, studio: Studio, store: Store, project: Project, prompts: PromptPair
) -> None:
    assert buttons(section, studio, project) == ["go"]
    job = add_job(store, project, "queued")
    assert buttons(section, studio, project) == ["stop"]
    store.update_job(job.id, state="stopping")
    assert buttons(section, studio, project) == []
    store.update_job(job.id, state="stopped")
    assert buttons(section, studio, project) == ["go", "resume"]
    add_pairs(store, prompts, 4, 1)
    assert buttons(section, studio, project) == ["go", "retry"]
    parts = shown(section, section.refresh(studio.view(project.id), None))
    assert not parts["go"]["interactive"]
    assert parts["failed_box"] == gr.update(visible=True, label="1 pair failed")


def test_a_stopped_redo_can_go_on_without_missing_pairs(store: Store, project: Project) -> None:
    job = add_job(store, project, "stopped", config={"redo": ["a"]})
    assert can_go_on(job, missing=0)
    assert not can_go_on(replace(job, config={"redo": []}), missing=0)
    assert not can_go_on(replace(job, state="done"), missing=3)


def test_one_job_at_a_time_makes_pictures(studio: Studio, store: Store, project: Project, prompts: PromptPair) -> None:
    assert make_pairs(studio, project.id, PairsConfig(strength=0.8)) == ""
    assert "being made already" in make_pairs(studio, project.id, PairsConfig())
    (job,) = store.list_jobs(project.id)
    assert (job.kind, job.config["strength"]) == ("pairs", 0.8)
    store.update_job(job.id, state="done")
    demo = store.create_job(Job("", project.id, "demo", {}))
    assert making(studio.view(project.id)) == demo
    assert "being made already" in make_pairs(studio, project.id, PairsConfig())


def test_the_job_in_front_is_the_one_under_way(studio: Studio, store: Store, project: Project) -> None:
    running = add_job(store, project, "running")
    add_job(store, project, "queued")
    add_job(store, project, "failed")
    assert making(studio.view(project.id)) == running


# -- what it does ------------------------------------------------------------------------------------------------


def test_a_tick_sends_what_changed_and_leaves_the_form(
    section: GenerateSection, studio: Studio, store: Store, project: Project, prompts: PromptPair
) -> None:
    first = section.refresh(studio.view(project.id), None)
    fields = slice(1, 1 + len(section.form.components))
    assert [update["value"] for update in first[fields]][:2] == [0.7, "4"]
    again = section.refresh(studio.view(project.id), first[0])
    assert all(value == gr.skip() for value in again[1:])
    before = section.shows(studio.view(project.id))
    add_pairs(store, prompts, 1)
    assert section.shows(studio.view(project.id)) != before
    later = section.refresh(studio.view(project.id), again[0])
    assert all(value == gr.skip() for value in later[fields])
    changed = {name for name, value in shown(section, later).items() if value != gr.skip()}
    assert changed == {"plan", "arriving"}


def test_at_most_the_newest_pairs_are_shown(
    section: GenerateSection, studio: Studio, store: Store, project: Project
) -> None:
    (many,) = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", count=20)])
    pairs = add_pairs(store, many, 20)
    text = shown(section, section.refresh(studio.view(project.id), None))["arriving"]
    assert text.count('class="duo-pair"') == SHOWN_PAIRS
    assert text.index(pairs[-1].id) < text.index(pairs[-SHOWN_PAIRS].id)
    assert pairs[-SHOWN_PAIRS - 1].id not in text
    store.update_image_pair(pairs[0].id, created=pairs[-1].created + 1)  # made again
    again = shown(section, section.refresh(studio.view(project.id), None))["arriving"]
    assert again.index(pairs[0].id) < again.index(pairs[-1].id)


def test_another_project_fills_the_form_with_its_last_run(
    section: GenerateSection, studio: Studio, store: Store, project: Project
) -> None:
    other = store.create_project(Project("", "Other", "sword", "/models/own", "nudenet"))
    seen = section.refresh(studio.view(project.id), None)[0]
    assert first_values(studio.view(other.id)) == {}
    store.create_job(Job("", other.id, "pairs", PairsConfig(strength=0.5, auto_accept=True).model_dump()))
    values = section.refresh(studio.view(other.id), seen)
    filled = dict(zip(section.form.fields, values[1 : 1 + len(section.form.fields)], strict=True))
    assert filled["strength"]["value"] == 0.5
    assert filled["auto_accept"]["value"] is True


def test_verdicts_are_shown_as_new_counts(
    section: GenerateSection, studio: Studio, store: Store, project: Project, prompts: PromptPair
) -> None:
    (pair,) = add_pairs(store, prompts, 1)
    before = section.shows(studio.view(project.id))
    store.add_verdict(Verdict("", pair.id, "Ada", "accept"))
    assert section.shows(studio.view(project.id)) != before
