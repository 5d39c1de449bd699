"""Making pictures in Chromium: they arrive, a reload loses nothing, a stop is answered, and Resume makes the rest."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from studio.records import Project, PromptPair
from studio.store import Store
from tests.browser.conftest import WAIT
from tests.browser.running import RunningStudio, settle, visit

PAIRS = 8  # enough for a stop in the middle on a quick machine


def make_project(studio: RunningStudio, prompts: int) -> Project:
    store = Store(studio.settings.database)
    project = store.create_project(Project("", f"{prompts} pairs", "sword", "toybox", "toybox"))
    store.add_prompt_pairs(
        PromptPair("", project.id, f"a knight, number {number}", "a gardener", seed=number) for number in range(prompts)
    )
    store.close()
    return project


def open_section(page: Page, studio: RunningStudio, project: Project) -> None:
    visit(page, f"{studio.url}?project={project.id}")
    page.get_by_role("tab", name="Prompts").click()
    expect(page.locator("#duo-plan")).not_to_be_empty()  # filled from the store, so its buttons work
    settle(page)


def test_pairs_arrive_and_survive_a_reload_a_stop_and_a_resume(page: Page, tiny_studio: RunningStudio) -> None:
    project = make_project(tiny_studio, PAIRS)
    open_section(page, tiny_studio, project)
    expect(page.locator("#duo-plan")).to_have_text(f"{PAIRS} pairs are wanted: {PAIRS} to make.")
    making = page.locator("#duo-making")
    making.get_by_role("button", name="All settings").click()
    settle(page)
    making.get_by_label("Steps").fill("100")
    making.get_by_label("Batch size").fill("1")
    making.get_by_label("Filter by detector").uncheck()
    page.get_by_role("button", name="Make the pictures").click()
    expect(page.get_by_role("progressbar", name="Make picture pairs").first).to_be_visible()
    expect(page.get_by_role("button", name="Make the pictures")).to_be_hidden()
    expect(page.locator(".duo-pair").first.locator("img")).to_have_count(2)

    page.reload()
    expect(page.get_by_role("tab", name="Prompts")).to_have_attribute("aria-selected", "true")  # where it was
    expect(page.locator(".duo-pair").first).to_be_visible()
    making.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped at")).to_be_visible()
    made = page.locator(".duo-pair").count()
    assert 1 <= made < PAIRS
    making.get_by_role("button", name="All settings").click()
    expect(making.get_by_label("Batch size")).to_have_value("1")  # the last run's settings, after the reload

    making.get_by_role("button", name="Resume").click()
    settled = page.get_by_text(f"All wanted pairs are settled: {PAIRS} ready, 0 failed.")
    expect(settled).to_be_visible(timeout=3 * WAIT)
    expect(page.locator(".duo-pair")).to_have_count(PAIRS)
    for picture in page.locator(".duo-pair img").all():
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("naturalWidth", 320)
    page.get_by_role("link", name="Now curate them").click()
    expect(page.get_by_role("tab", name="Curate")).to_have_attribute("aria-selected", "true")


def test_without_prompts_nothing_can_be_made(page: Page, tiny_studio: RunningStudio) -> None:
    open_section(page, tiny_studio, make_project(tiny_studio, 0))
    expect(page.locator("#duo-plan")).to_contain_text("There are no prompts yet")
    expect(page.get_by_role("button", name="Make the pictures")).to_be_disabled()


def test_a_setting_that_is_not_allowed_is_named(page: Page, tiny_studio: RunningStudio) -> None:
    open_section(page, tiny_studio, make_project(tiny_studio, 1))
    page.locator("#duo-making").get_by_label("Guidance scale").fill("0")
    page.get_by_role("button", name="Make the pictures").click()
    alert = page.locator("#duo-making").get_by_role("alert")
    expect(alert).to_have_text("Guidance scale is 0; it must be a number at least 1, at most 30.")
    expect(page.get_by_role("button", name="Make the pictures")).to_be_visible()


def test_the_section_fits_a_phone(page: Page, tiny_studio: RunningStudio) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_section(page, tiny_studio, make_project(tiny_studio, 2))
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
