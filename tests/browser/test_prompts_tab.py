"""Projects and the Prompts tab in Chromium: a project made, rows typed, pasted, removed and kept through a reload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from studio.records import ImagePair, Project, PromptPair
from studio.store import Store
from tests.browser.axe import axe_problems
from tests.browser.running import RunningStudio, running_studio, tiny_settings, visit

# The tiny text encoder sees 14 letters: two words and a part of the third.
# The tiny text encoder sees 14 letters: two words and a part of the third.
TOO_LONG = "a knight " + "very " * 9 + "far away"


@pytest.fixture(scope="module")
def studio(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStudio]:
    """A page of its own, with one project of one prompt pair that has a picture."""
    settings = tiny_settings(tmp_path_factory.mktemp("data"), tiny_folder)
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))
    (pair,) = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", 2)])
    store.add_image_pair(ImagePair("", project.id, pair.id, 0, seed=0, state="failed"))
    store.close()
    with running_studio(settings) as running:
        yield running


def open_prompts(page: Page, studio: RunningStudio) -> None:
    visit(page, studio.url)
    page.get_by_role("tab", name="Prompts").click()
    expect(page.locator(".pr-row").or_(page.get_by_role("heading", name="No prompts yet")).first).to_be_visible()


def new_project(page: Page, name: str) -> None:
    page.get_by_role("button", name="New project").click()
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.keyboard.type(name)
    page.get_by_label("Concept to forget").fill("flower")
    page.get_by_role("button", name="Create the project").click()
    expect(page.get_by_role("heading", name="No prompts yet")).to_be_visible()


def stored(studio: RunningStudio, name: str) -> list[tuple[str, str, int]]:
    store = Store(studio.settings.database)
    project = next(project for project in store.list_projects() if project.name == name)
    pairs = [(pair.unsafe, pair.safe, pair.count) for pair in store.list_prompt_pairs(project.id)]
    store.close()
    return pairs


def test_a_new_project_and_its_prompts(page: Page, studio: RunningStudio, tmp_path: Path) -> None:
    open_prompts(page, studio)
    page.get_by_role("button", name="New project").click()
    page.get_by_role("button", name="Create the project").click()
    expect(page.get_by_role("alert")).to_contain_text("The project has no name")
    page.get_by_role("button", name="Close").click()
    new_project(page, "Rose")

    page.get_by_label("Unsafe template").fill("a {knight|warrior} in red")
    page.get_by_label("Safe template", exact=True).fill("a {gardener} in red")
    expect(page.locator(".pr-preview li")).to_have_count(2)
    page.get_by_role("button", name="Add 2 prompt pairs").click()
    expect(page.locator(".pr-row")).to_have_count(2)
    expect(page.locator(".pr-summary")).to_have_text(
        "2 prompt pairs ask for 2 pairs of pictures; none of them is made yet."
    )

    page.get_by_role("button", name="Add a row").click()
    for word in ("a viking", "a Viking"):
        page.keyboard.type(word)
        page.keyboard.press("Tab")
    expect(page.locator(".pr-problem", has_text="equal")).to_be_visible()
    page.get_by_label("Count, row 1").fill("0")
    page.keyboard.press("Enter")  # leaves the row, which saves it
    expect(page.locator(".pr-status")).to_contain_text("1 row is not saved")
    assert stored(studio, "Rose") == [
        ("a knight in red", "a gardener in red", 0),
        ("a warrior in red", "a gardener in red", 1),
    ]

    open_prompts(page, studio)  # a reload
    page.get_by_label("Project", exact=True).click()
    page.get_by_role("option", name="Rose").click()
    expect(page.get_by_label("Safe prompt, row 3", exact=True)).to_have_value("a Viking")
    expect(page.locator(".pr-problem", has_text="equal")).to_be_visible()
    page.get_by_label("Safe prompt, row 3", exact=True).fill("a baker")
    page.get_by_label("Count, row 1").focus()
    expect(page.locator(".pr-status")).to_have_text("Everything is saved.")
    assert stored(studio, "Rose")[2] == ("a viking", "a baker", 1)

    page.get_by_role("button", name="Remove row 2").click()
    expect(page.locator(".pr-row")).to_have_count(2)
    page.get_by_role("button", name="Bring the removed row back").click()
    expect(page.locator(".pr-row")).to_have_count(3)
    expect(page.locator(".pr-status")).to_have_text("Everything is saved.")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert "a viking,a baker,1," in Path(download.value.path()).read_text(encoding="utf-8")


def test_rows_with_pictures_stay_and_long_prompts_are_marked(page: Page, studio: RunningStudio) -> None:
    open_prompts(page, studio)
    unsafe = page.get_by_label("Unsafe prompt, row 1")
    expect(unsafe).to_have_attribute("readonly", "")
    unsafe.focus()
    expect(page.get_by_text("Pictures were made of these words")).to_be_visible()
    page.get_by_role("button", name="Copy into a new row").click()
    expect(page.locator(".pr-row")).to_have_count(2)
    page.keyboard.press("Control+a")
    page.keyboard.type(TOO_LONG)
    page.get_by_label("Count, row 1").fill("3")
    page.get_by_label("Count, row 2").focus()
    expect(page.locator(".pr-cut")).to_have_text(
        ["", f"The unsafe prompt is too long for the text encoder, which does not see “{TOO_LONG[14:]}”."]
    )
    assert stored(studio, "Sword") == [("a knight", "a gardener", 3), (TOO_LONG, "a gardener", 2)]


def test_what_comes_from_elsewhere_leaves_the_row_in_hand_alone(page: Page, studio: RunningStudio) -> None:
    open_prompts(page, studio)
    new_project(page, "Two people")
    page.get_by_role("button", name="Add a row").click()
    page.keyboard.type("half a thou")
    store = Store(studio.settings.database)
    project = next(project for project in store.list_projects() if project.name == "Two people")
    store.add_prompt_pairs([PromptPair("", project.id, "theirs", "a gardener")])
    store.close()
    expect(page.get_by_label("Unsafe prompt, row 1")).to_have_value("theirs")
    page.keyboard.type("ght")
    expect(page.get_by_label("Unsafe prompt, row 2")).to_have_value("half a thought")
    expect(page.get_by_label("Unsafe prompt, row 2")).to_be_focused()


def test_axe_finds_nothing(page: Page, studio: RunningStudio) -> None:
    open_prompts(page, studio)
    page.get_by_role("button", name="Settings", exact=True).click()
    expect(page.get_by_label("Name", exact=True)).to_be_visible()
    expect(page.locator(".pr-row").first).to_be_visible()
    assert axe_problems(page) == ""
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
