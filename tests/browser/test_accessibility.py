"""axe over every tab, by the rules of WCAG 2.1 A and AA: light and dark, at a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from studio.images import put_image
from studio.records import ImagePair, Job, Project, PromptPair, PromptShelf
from studio.store import Store
from tests.browser.axe import axe_problems
from tests.browser.running import RunningStudio, running_studio, tiny_settings, visit
from tests.browser.test_compare import compare
from tests.ui_data import add_evaluation

TABS = ("Prompts", "Curate", "Train", "Compare", "Report")


@pytest.fixture(scope="module")
def furnished_studio(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStudio]:
    """A page with something in every tab: prompts, pairs, a failed training, a shelf, an evaluation."""
    settings = tiny_settings(tmp_path_factory.mktemp("data"), tiny_folder, prewarm=True)
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))
    (prompt,) = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", count=3)])
    shades = [put_image(settings, np.full((64, 64, 3), shade, np.uint8)) for shade in (60, 180)]
    for index in range(3):
        store.add_image_pair(
            ImagePair("", project.id, prompt.id, index, index, "ready", *shades, strength=0.7, tries=1)
        )
    job = store.create_job(Job("", project.id, "train", {"method": "duo", "name": "DUO"}))
    store.update_job(job.id, state="failed", error="The worker was killed.\nlast line")
    store.add_shelf(PromptShelf("", project.id, "Hard ones", "a king"))
    add_evaluation(store, settings, project)
    store.close()
    with running_studio(settings) as studio:
        yield studio


@pytest.fixture(params=[("light", 1280), ("dark", 390)], ids=str)
def visitor(request: pytest.FixtureRequest, browser: Browser, furnished_studio: RunningStudio) -> Iterator[Page]:
    scheme, width = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
    page.set_default_timeout(60_000)
    visit(page, furnished_studio.url)
    expect(page.get_by_label("Original")).to_be_checked()
    yield page
    page.close()


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")


def test_axe_finds_nothing_in_the_tabs(visitor: Page) -> None:
    found = {}
    for tab in TABS:
        open_tab(visitor, tab)
        found[tab] = axe_problems(visitor)
    assert not any(found.values()), "\n".join(f"{tab}: {text}" for tab, text in found.items() if text)


def test_axe_finds_nothing_in_what_is_opened_and_drawn(visitor: Page) -> None:
    found = {}
    visitor.get_by_role("button", name="Saved prompts").click()
    visitor.get_by_role("button", name="Jobs").click()
    compare(visitor)
    found["grid"] = axe_problems(visitor)
    for view, shown in (("Slider", ".duo-slider"), ("Difference", ".duo-heat-scale")):
        visitor.get_by_role("radio", name=view).check()
        expect(visitor.locator(shown)).to_be_visible()
        found[view] = axe_problems(visitor)
    visitor.get_by_role("radio", name="Break it").check()
    visitor.get_by_label("Your prompt").fill("a king")
    visitor.get_by_label("Your prompt").press("Enter")
    expect(visitor.locator(".duo-tally-board")).to_be_visible()
    expect(visitor.locator("#duo-go")).to_be_visible()
    found["break it"] = axe_problems(visitor)
    open_tab(visitor, "Report")
    visitor.get_by_role("button", name="Evaluate models").click()
    expect(visitor.get_by_role("button", name="Evaluate", exact=True)).to_be_visible()
    found["report"] = axe_problems(visitor)
    open_tab(visitor, "Curate")
    for panel in ("bring", "take", "purge"):
        visitor.locator(f"#duo-{panel} > button").click()
    visitor.locator("#duo-purge-look").click()
    expect(visitor.locator("#duo-purge-told")).to_contain_text("files")
    found["bring, take, delete"] = axe_problems(visitor)
    assert not any(found.values()), "\n".join(f"{name}: {text}" for name, text in found.items() if text)
