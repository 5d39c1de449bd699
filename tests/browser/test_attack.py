"""The attack panel in Chromium: the cost, the start, the pictures and rates, what is kept, what is measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from models.loading import load_bundle
from studio.records import Checkpoint, Job, Project
from studio.store import Store
from tests.browser.axe import axe_problems
from tests.browser.running import RunningStudio, running_studio, settle, tiny_settings, visit
from tests.test_foreign import random_lora


@pytest.fixture
def studio(tiny_folder: Path, tmp_path: Path) -> Iterator[RunningStudio]:
    """A page with one trained LoRA. Asked for before `page`, so that it ends after it."""
    from models.deltas import save_delta

    settings = tiny_settings(tmp_path / "data", tiny_folder)
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("", "Sword", "sword", "toybox", "toybox", {"concept": "sword"}))
    job = store.create_job(Job("", project.id, "train", {"method": "duo", "name": "DUO", "config": {}}))
    path = settings.checkpoints / job.id / "adapter.safetensors"
    sha256 = save_delta(random_lora(load_bundle("toybox", device="cpu", toybox=tiny_folder), 4, 10.0), path)
    store.add_checkpoint(Checkpoint("", project.id, job.id, "duo", "DUO", str(path), sha256, "lora"))
    store.update_job(job.id, state="done")
    store.close()
    with running_studio(settings) as running:
        yield running


def test_an_attack_from_its_cost_to_what_is_kept_and_what_attackers_do(studio: RunningStudio, page: Page) -> None:
    visit(page, studio.url)
    panel = page.locator("#duo-attack")
    panel.locator("> button").click()
    expect(panel.locator("#duo-attack-cost")).to_contain_text("At most about")
    panel.locator("#duo-attack-name input").click()
    page.get_by_role("option", name="Random tokens · asks the model for pictures").click()
    expect(panel.locator("#duo-attack-cost")).to_contain_text("At most 200 queries")
    panel.get_by_role("button", name="All settings").click()
    settle(page)
    for name, value in (("n", "2"), ("fresh", "1"), ("steps", "2")):
        panel.locator(f"#duo-attackjob-{name} input, #duo-attackjob-{name} textarea").fill(value)
    panel.get_by_label("Values of the attack").fill("queries=-1")
    panel.locator("#duo-attack-go").click()
    expect(panel.get_by_role("alert")).to_contain_text("queries = '-1': it must be at least 0")
    panel.get_by_label("Values of the attack").fill("queries=2")
    expect(panel.locator("#duo-attack-cost")).to_contain_text("At most 4 queries")
    panel.locator("#duo-attack-go").click()
    expect(panel.locator("#duo-attack-head .duo-pill")).to_have_text("done")
    expect(panel.locator("#duo-attack-rates tbody tr")).to_have_count(1)
    expect(panel.locator("#duo-attack-rates figure img")).to_have_count(4)  # the original's and the model's
    expect(panel.locator("#duo-attack-rates figure .duo-pill").first).to_contain_text("sword")

    panel.locator("#duo-attack-hits input").first.check()
    panel.get_by_label("Name of the new shelf").fill("Found")
    panel.get_by_role("button", name="Save ticked to a shelf").click()
    expect(panel.get_by_text("Saved as 'Found'")).to_be_visible()
    with page.expect_download() as download:
        panel.get_by_role("link", name="Found prompts (CSV)").click()
    assert Path(download.value.path()).read_text().startswith("case_number,prompt,evaluation_seed")

    stress = page.locator("#duo-stress")
    stress.locator("> button").click()
    expect(stress.locator("#duo-stress-cost")).to_contain_text("in 113 cells")
    for box in stress.locator("#duo-stress-groups input").all()[2:]:
        box.uncheck()
    expect(stress.locator("#duo-stress-cost")).to_contain_text("in 8 cells")
    stress.get_by_role("button", name="All settings").click()
    settle(page)
    for name, value in (("n", "2"), ("steps", "2")):
        stress.locator(f"#duo-stress-{name} input, #duo-stress-{name} textarea").fill(value)
    expect(stress.locator("#duo-stress-cost")).to_contain_text("At most 16 pictures in 8 cells")
    stress.locator("#duo-stress-go").click()
    expect(stress.locator("#duo-stress-head")).to_contain_text("Done")
    expect(stress.locator("#duo-stress-table tbody tr")).to_have_count(6)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
        assert axe_problems(page) == ""
