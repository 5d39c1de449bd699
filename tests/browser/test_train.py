"""The Train tab in Chromium with a real training: started, watched, stopped, killed, resumed, used again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from studio.images import put_image
from studio.jobs import log_path
from studio.records import Checkpoint, Job, Project, Sample
from studio.settings import Settings
from studio.store import Store
from studio.training_configs import DuoConfig
from tests.browser.axe import axe_problems
from tests.browser.conftest import WAIT
from tests.browser.running import RunningStudio, running_studio, settle, tiny_settings, visit
from tests.ui_data import add_accepted_pairs

STEPS = 2000  # more than it gets to
PLOTS = [
    "Loss",
    "Reconstruction, against the original",
    "Implicit accuracy",
    "Preference term",
    "Learning rate",
    "Prior term",
    "Gradient norm",
]


@pytest.fixture
def studio(tiny_folder: Path, tmp_path: Path) -> Iterator[RunningStudio]:
    """A page of its own with three accepted pairs. Asked for before `page`, so that it ends after it."""
    settings = tiny_settings(tmp_path / "data", tiny_folder)
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("", "Sword", "sword", "toybox", "toybox", {"concept": "sword"}))
    add_accepted_pairs(store, settings, project, 3)
    store.close()
    with running_studio(settings) as running:
        yield running


def open_train(page: Page, studio: RunningStudio) -> None:
    visit(page, studio.url)
    page.get_by_role("tab", name="Train").click()
    expect(page.locator("#duo-train-ground")).to_contain_text("accepted pair")
    settle(page)


def field(page: Page, name: str, method: str = "duo") -> Locator:
    """What is typed into one setting; its label holds its help too."""
    return page.locator(f"#duo-{method}-{name}").locator("input, textarea")


def wait_for_step(store: Store, step: int) -> int:
    """Wait until the only job is there; the step it is at."""
    end = time.monotonic() + WAIT / 1000
    while (job := store.list_jobs()[0]).step < step or job.total != STEPS:
        assert time.monotonic() < end, f"waited in vain for step {step}: {job}"
        time.sleep(0.1)
    return job.step


def pid_of(store: Store) -> int:
    (job,) = store.list_jobs()
    assert job.pid is not None
    return job.pid


def test_a_training_is_started_watched_stopped_killed_and_resumed(studio: RunningStudio, page: Page) -> None:
    store = Store(studio.settings.database)
    open_train(page, studio)
    expect(page.locator("#duo-train-ground")).to_contain_text("Only 3 accepted pairs. With fewer than 32")
    expect(page.locator("#duo-train-ground")).to_contain_text("64")
    expect(field(page, "beta")).to_have_value("50")  # the embedded checkpoint's preset
    expect(field(page, "learning-rate")).to_have_value("3e-4")

    field(page, "steps").fill(str(STEPS))
    field(page, "learning-rate").fill("fast")
    field(page, "batch-size").fill("2")
    field(page, "sample-every").fill("2")
    field(page, "sample-every").press("End")
    field(page, "sample-every").press_sequentially("5")
    expect(page.locator("#duo-duo-preset input")).to_have_value("as typed below")
    page.get_by_role("button", name="Train", exact=True).click()
    said = page.get_by_role("alert")
    expect(said).to_contain_text("Learning rate is fast; it must be a number above 0, at most 1.")
    expect(said).to_be_in_viewport()
    expect(field(page, "learning-rate")).to_have_value("fast")
    field(page, "learning-rate").fill("1e-4")
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.get_by_text("No training yet")).to_be_hidden()
    expect(page.locator("#duo-train-error")).to_have_text("")
    expect(field(page, "learning-rate")).to_have_value("1e-4")

    expect(page.locator(".duo-training .duo-pill")).to_have_text("running")
    expect(page.locator(".duo-plot h4")).to_have_text(PLOTS)
    expect(page.locator(".duo-film thead th")).to_have_text(["original", "step 25"])
    picture = page.locator(".duo-film img").last
    picture.scroll_into_view_if_needed()
    page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())

    other = page.context.browser.new_page()  # type: ignore[union-attr]
    for visitor in (page, other):  # a reload in the middle, and a second browser
        open_train(visitor, studio)
        expect(visitor.locator(".duo-training .duo-pill")).to_have_text("running")
        expect(visitor.locator(".duo-plot svg").first).to_be_visible()
        expect(visitor.locator(".duo-film thead th").first).to_have_text("original")

    page.get_by_role("button", name="Stop", exact=True).first.click()
    for visitor in (page, other):
        expect(visitor.locator(".duo-training .duo-pill")).to_have_text("stopped")
    expect(page.locator(".duo-training")).to_contain_text("Stopped at step")
    (stopped,) = store.list_jobs()
    assert 25 <= stopped.step < STEPS

    page.locator("#duo-train-resume").click()
    expect(page.locator(".duo-training .duo-pill")).to_have_text("running")
    expect(page.locator(".duo-training")).to_contain_text(f"of {STEPS}")
    killed_at = wait_for_step(store, stopped.step + 1)
    os.kill(pid_of(store), signal.SIGKILL)
    for visitor in (page, other):
        expect(visitor.locator(".duo-training .duo-pill")).to_have_text("failed")
    expect(page.locator(".duo-training").get_by_role("alert")).to_contain_text("was killed by SIGKILL")

    other.get_by_role("button", name="Jobs").click()  # in the other browser, from under the tabs
    expect(other.locator("#duo-jobs .duo-job")).to_contain_text("failed")
    other.locator("#duo-resume-job").click()
    expect(page.locator(".duo-training .duo-pill")).to_have_text("running")
    wait_for_step(store, killed_at + 1)
    page.locator("#duo-train-stop").click()
    expect(page.locator(".duo-training .duo-pill")).to_have_text("stopped")
    other.close()
    (job,) = store.list_jobs()
    assert [row["step"] for row in store.job_metrics(job.id)] == list(range(1, job.step + 1))
    assert store.sampled_steps(job.id) == list(range(0, job.step + 1, 25))
    store.close()


def test_a_finished_training_leads_on(studio: RunningStudio, page: Page) -> None:
    store = Store(studio.settings.database)
    (project,) = store.list_projects()
    config = DuoConfig(steps=123, learning_rate=2e-5).model_dump()
    job = store.create_job(Job("", project.id, "train", {"method": "duo", "name": "DUO", "config": config}))
    path = studio.settings.checkpoints / job.id / "adapter.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    made = store.add_checkpoint(Checkpoint("", project.id, job.id, "duo", "DUO", str(path), "ab" * 32, "lora"))
    store.update_job(job.id, state="done", result={"checkpoint_id": made.id})
    image = put_image(studio.settings, np.zeros((64, 64, 3), np.uint8))
    for step in range(0, 1001, 50):
        store.put_sample_row([Sample("", job.id, "", step, 0, "a knight", 1, True, image, False, 0.1)])
    log_path(studio.settings, job.id).write_text("first line\nlast line\n", encoding="utf-8")
    store.close()
    open_train(page, studio)
    expect(page.locator(".duo-training .duo-pill")).to_have_text("done")
    newest = page.locator(".duo-film thead th").last
    expect(newest).to_have_text("step 1000")
    newest.scroll_into_view_if_needed()  # the page's scroll; the film itself begins at its newest end
    assert page.evaluate("document.querySelector('.duo-film').scrollLeft") == 0
    assert page.locator(".duo-film thead th").first.bounding_box()["x"] < 0  # type: ignore[index]
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the adapter").click()
    assert download.value.suggested_filename == "duo-abababab.safetensors"
    assert Path(download.value.path()).read_bytes() == b"weights"
    page.locator("#duo-train-log button").click()
    expect(page.locator(".duo-log")).to_contain_text("last line")

    page.get_by_role("button", name="Use these settings").click()  # again, from what was really used
    expect(field(page, "steps")).to_have_value("123")
    expect(field(page, "learning-rate")).to_have_value("2e-5")
    expect(page.locator("#duo-train-name input")).to_have_value("DUO 2")
    page.get_by_role("link", name="See it in Compare").click()
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")


def test_the_keyboard_alone_starts_a_training(studio: RunningStudio, page: Page) -> None:
    open_train(page, studio)
    page.locator("#duo-method input").focus()  # opens the list
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#duo-train-ground")).to_contain_text("prompts alone")
    expect(field(page, "eta", "esd")).to_be_visible()
    expect(field(page, "beta")).to_be_hidden()
    page.locator("#duo-train-go").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".duo-training h3")).to_contain_text("ESD")
    page.locator("#duo-train-stop").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".duo-training .duo-pill")).to_have_text("stopped")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_train(browser: Browser, studio: RunningStudio, scheme: str) -> None:
    store = Store(studio.settings.database)
    (project,) = store.list_projects()
    fill_store(store, studio.settings, project)
    store.close()
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)  # type: ignore[arg-type]
    page.set_default_timeout(180_000)
    open_train(page, studio)
    page.get_by_role("button", name="All settings").first.click()
    page.get_by_role("button", name="Jobs").click()
    expect(page.locator(".duo-film img")).to_have_count(4)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    found = axe_problems(page)
    page.close()
    assert found == ""


def fill_store(store: Store, settings: Settings, project: Project) -> None:
    """A failed training with numbers and pictures, and a stopped one."""
    for name, state in (("first", "stopped"), ("second", "failed")):
        config = {"method": "duo", "name": name, "config": DuoConfig().model_dump()}
        job = store.create_job(Job("", project.id, "train", config))
        store.update_job(job.id, state=state, step=30, total=120, error="It was killed.\nlast line")
    for step in range(1, 31):
        names = ("loss", "dpo", "prior", "d_safe", "d_unsafe", "implicit_accuracy", "grad_norm")
        store.add_job_metrics(job.id, step, dict.fromkeys(names, 0.5 / step))
    image = put_image(settings, np.zeros((64, 64, 3), np.uint8))
    for step in (0, 30):
        store.put_sample_row(
            Sample("", job.id, "", step, at, f"a knight {at}", at, at == 0, image, at == 0, 0.5) for at in (0, 1)
        )
