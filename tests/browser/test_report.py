"""The Report tab in Chromium: from nothing, through a running demo, to finished reports side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from studio.records import Checkpoint, Job, Project
from studio.store import Store
from tests.browser.running import RunningStudio, running_studio, settle, tiny_settings
from tests.browser.test_compare import compare, open_studio
from tests.ui_data import add_evaluation


@pytest.fixture
def empty_studio(tiny_folder: Path, tmp_path: Path) -> Iterator[RunningStudio]:
    """A page of its own, since its demo leaves jobs behind. Asked for before `page`, so that it ends after it."""
    with running_studio(tiny_settings(tmp_path / "data", tiny_folder)) as studio:
        yield studio


@pytest.fixture(scope="module")
def reported_studio(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStudio]:
    """A page with a finished evaluation, a failed job and a done one."""
    settings = tiny_settings(tmp_path_factory.mktemp("data"), tiny_folder)
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))
    evaluation = add_evaluation(store, settings, project)
    again = {**evaluation.report, "seed": 3}
    store.add_evaluation(replace(evaluation, id="", created=evaluation.created - 3600, report=again))
    store.add_evaluation(replace(evaluation, id="", created=0.0))  # the newest one is shown first
    job = store.create_job(Job("", project.id, "train", {"method": "duo", "name": "DUO"}))
    store.update_job(job.id, state="failed", error="The worker was killed.\nlast line")
    store.close()
    with running_studio(settings) as studio:
        yield studio


def open_report(page: Page, studio: RunningStudio) -> None:
    open_studio(page, studio)
    page.get_by_role("tab", name="Report").click()


def test_the_demo_starts_survives_a_reload_and_stops(empty_studio: RunningStudio, page: Page) -> None:
    open_report(page, empty_studio)
    expect(page.get_by_text("No report yet")).to_be_visible()
    page.get_by_role("button", name="Quick version").click()
    expect(page.get_by_text("Demo: the whole method").first).to_be_visible()
    expect(page.get_by_text("No report yet")).to_be_hidden()
    expect(page.locator(".duo-running")).to_contain_text("% done")

    open_report(page, empty_studio)  # a reload, and a second visitor too: the truth is in the store
    expect(page.locator(".duo-running")).to_contain_text("% done")
    page.get_by_role("button", name="Stop the demo").click()
    expect(page.get_by_role("button", name="Resume the stopped demo")).to_be_visible()
    expect(page.get_by_text("No report yet")).to_be_visible()
    page.get_by_role("button", name="Jobs").click()
    expect(page.locator(".duo-job")).to_contain_text("stopped")


def test_a_finished_report_shows_its_figures_and_downloads(page: Page, reported_studio: RunningStudio) -> None:
    open_report(page, reported_studio)
    expect(page.get_by_text("Is the sword gone?")).to_be_visible()
    expect(page.locator(".duo-bar.is-duo").first).to_contain_text("1.5")
    expect(page.locator(".duo-table thead th")).to_have_text(["Original", "DUO"])
    picture = page.locator(".duo-report .duo-cell img").first
    picture.scroll_into_view_if_needed()
    page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
    with page.expect_download() as download:
        page.get_by_role("link", name="Download report (HTML)").click()
    assert "sword" in Path(download.value.path()).read_text(encoding="utf-8")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download curve (PNG)").click()
    with Image.open(download.value.path()) as curve:
        assert (curve.format, curve.size) == ("PNG", (2100, 1600))
        assert curve.convert("L").getextrema()[0] < 60  # something is drawn on the white


def test_what_a_job_finishes_appears_without_a_reload(empty_studio: RunningStudio, page: Page) -> None:
    open_report(page, empty_studio)
    expect(page.get_by_text("No report yet")).to_be_visible()
    store = Store(empty_studio.settings.database)  # as a job's process does
    (project,) = store.list_projects()
    evaluation = add_evaluation(store, empty_studio.settings, project)
    checkpoint = Checkpoint("", project.id, evaluation.job_id, "duo", "DUO", "/none.safetensors", "ab" * 32, "lora")
    store.add_checkpoint(checkpoint)
    store.close()
    expect(page.get_by_text("Is the sword gone?")).to_be_visible()
    expect(page.get_by_role("button", name="Run the demo again")).to_be_visible()
    page.get_by_role("tab", name="Compare").click()
    expect(page.get_by_label("DUO · abababab")).to_be_checked()
    compare(page)
    expect(page.locator(".duo-missing")).to_contain_text("/none.safetensors")  # this column only
    expect(page.locator("#duo-pictures .duo-cell img")).to_have_count(2)


def test_a_failed_job_says_why(page: Page, reported_studio: RunningStudio) -> None:
    open_report(page, reported_studio)
    page.get_by_role("button", name="Jobs").click()
    expect(page.locator(".duo-job").first).to_contain_text("The worker was killed.")


def test_two_runs_are_shown_side_by_side(page: Page, reported_studio: RunningStudio, tmp_path: Path) -> None:
    open_report(page, reported_studio)
    expect(page.get_by_text("Is the sword gone?")).to_be_visible()
    page.locator("#duo-second input").click()
    page.get_by_role("option", name="seed 3").click()
    expect(page.get_by_role("heading", name="Two runs side by side")).to_be_visible()
    expect(page.locator(".duo-two-runs li")).to_have_text(["Seed 0 → 3"])
    expect(page.locator(".duo-two-runs tbody tr").first).to_contain_text("intervals overlap")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download table (CSV)").click()
    assert "concept_rate,named,duo" in Path(download.value.path()).read_text(encoding="utf-8")


def test_an_evaluation_is_asked_for_stopped_and_named_when_wrong(empty_studio: RunningStudio, page: Page) -> None:
    open_report(page, empty_studio)
    page.get_by_role("button", name="Evaluate models").click()
    settle(page)
    number = page.locator("#duo-evaluate-n input, #duo-evaluate-n textarea").first
    alert = page.locator("#duo-evaluate").get_by_role("alert")
    expect(page.locator(".duo-path")).to_be_visible()
    page.wait_for_timeout(2000)  # a busy machine's page is there before it listens
    page.locator("#duo-evaluate-protocol input").click()
    page.get_by_role("option", name="I2P: rate by category").click()
    expect(page.locator("#duo-evaluate-about")).to_contain_text("All that it needs is here.")
    expect(number).to_have_value("25")
    number.fill("0")
    number.press("Tab")
    expect(number).to_have_value("0")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    expect(alert).to_be_visible()
    number.fill("40")
    number.press("Tab")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    expect(page.locator(".duo-running")).to_contain_text("Evaluate")
    page.get_by_role("button", name="Stop the evaluation").click()
    expect(page.get_by_role("button", name="Resume the stopped evaluation")).to_be_visible()
