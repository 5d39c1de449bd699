"""Walks through Compare in Chromium, with keys and mouse, at a desk and on a phone."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.running import RunningStudio, visit

KNIGHT = "a knight in a red shirt on the beach"
WARRIOR = "a warrior in a blue shirt in the forest"


def open_studio(page: Page, studio: RunningStudio) -> None:
    visit(page, studio.url)
    expect(page.get_by_label("Original")).to_be_checked()  # filled from the store, so its buttons work


def compare(page: Page) -> None:
    """Press the button and wait until all is drawn anew."""
    page.locator("#duo-pictures").locator(".duo-grid, .duo-empty, .duo-sliders, .duo-heat-scale").first.evaluate(
        "shown => shown.classList.add('old')"
    )
    page.locator("#duo-go").click()
    expect(page.locator("#duo-pictures .old")).to_have_count(0)
    expect(page.locator("#duo-go")).to_be_visible()


def pictures(page: Page) -> list[str]:
    return [image.get_attribute("src") or "" for image in page.locator(".duo-cell img").all()]


def test_a_walk_through_compare(page: Page, tiny_studio: RunningStudio, tmp_path: Path) -> None:
    open_studio(page, tiny_studio)
    expect(page.get_by_text("Nothing drawn yet")).to_be_visible()
    page.get_by_label(WARRIOR).check()
    expect(page.get_by_label("Prompts, one a line")).to_have_value(f"{KNIGHT}\n{WARRIOR}")
    compare(page)
    expect(page.locator(".duo-head h3")).to_have_text(["Original", "Never saw a sword"])
    expect(page.locator(".duo-prompt q")).to_have_text([KNIGHT, WARRIOR])
    expect(page.locator(".duo-cell img")).to_have_count(4)
    expect(page.locator(".duo-cell .duo-pill")).to_have_count(4)
    first = pictures(page)
    assert len(set(first)) == 4
    wide = "grid => { grid.style.gridTemplateColumns = '1200px 1200px'; return document.scrollingElement.scrollWidth }"
    assert page.locator(".duo-grid").evaluate(wide) <= page.viewport_size["width"]  # type: ignore[index]

    with page.expect_download() as download:
        page.get_by_role("link", name="PNG").first.click()
    download.value.save_as(tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        picture.load()
        assert KNIGHT in str(picture.info)
        assert "7" in str(picture.info)

    compare(page)
    assert pictures(page) == first  # the same seed is the same picture, to the byte
    page.locator("#duo-seed input").fill("8")
    compare(page)
    assert not set(pictures(page)) & set(first)

    page.get_by_role("radio", name="Slider").check()
    expect(page.locator(".duo-slider")).to_have_count(2)
    handle = page.locator(".duo-slider input").first
    handle.focus()
    handle.press("Home")
    assert page.locator(".duo-stage").first.evaluate("stage => stage.style.getPropertyValue('--x')") == "0%"


def test_the_embedded_checkpoint_draws_swords_and_the_oracle_none(page: Page, embedded_studio: RunningStudio) -> None:
    open_studio(page, embedded_studio)
    page.get_by_label("Named").check()
    page.get_by_label("Prompts, one a line").fill("a person holding a sword in a red shirt on the beach")
    page.get_by_role("spinbutton", name="number input for Pictures a prompt").fill("4")
    compare(page)
    tallies = page.locator(".duo-tally").all_inner_texts()
    assert [int(text.split()[2]) >= 3 for text in tallies] == [True, False], tallies
    assert tallies[1].startswith("sword in 0 of 4") or tallies[1].startswith("sword in 1 of 4"), tallies


def test_keys_alone_are_enough(page: Page, tiny_studio: RunningStudio) -> None:
    open_studio(page, tiny_studio)
    page.get_by_label("Prompts, one a line").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("a clown")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "duo-go":
            break
    page.keyboard.press("Enter")
    expect(page.locator(".duo-cell img")).to_have_count(2)
    expect(page.locator(".duo-prompt q")).to_have_text(["a clown"])


def test_an_empty_prompt_is_said_plainly(page: Page, tiny_studio: RunningStudio) -> None:
    open_studio(page, tiny_studio)
    page.get_by_label("Prompts, one a line").fill("")
    page.locator("#duo-go").click()
    expect(page.locator("#duo-status").get_by_role("alert")).to_contain_text("There is no prompt yet")


def test_drawing_can_be_stopped(page: Page, tiny_studio: RunningStudio) -> None:
    open_studio(page, tiny_studio)
    page.get_by_role("button", name="Sampling").click()
    page.get_by_role("spinbutton", name="number input for Steps").fill("100")
    page.get_by_role("spinbutton", name="number input for Pictures a prompt").fill("8")
    page.locator("#duo-go").click()
    page.get_by_role("button", name="Stop drawing").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    expect(page.locator(".duo-waiting")).to_have_count(0)
    expect(page.locator("#duo-go")).to_be_visible()


def test_random_draws_another_seed(page: Page, tiny_studio: RunningStudio) -> None:
    open_studio(page, tiny_studio)
    seed = page.locator("#duo-seed input")
    page.get_by_role("button", name="Random").click()
    expect(seed).not_to_have_value("7")


def test_two_visitors_at_once_get_their_own_pictures(page: Page, tiny_studio: RunningStudio) -> None:
    other = page.context.browser.new_page()  # type: ignore[union-attr]
    for visitor, prompt in ((page, "a clown"), (other, "a king")):
        open_studio(visitor, tiny_studio)
        visitor.get_by_label("Prompts, one a line").fill(prompt)
        visitor.get_by_role("button", name="Compare").click()
    for visitor, prompt in ((page, "a clown"), (other, "a king")):
        expect(visitor.locator(".duo-cell img")).to_have_count(2)
        expect(visitor.locator(".duo-prompt q")).to_have_text([prompt])
    other.close()


@pytest.mark.parametrize("tab", ["Compare", "Report"])
def test_the_page_fits_a_phone(page: Page, tiny_studio: RunningStudio, tab: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_studio(page, tiny_studio)
    page.get_by_role("tab", name=tab).click()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390


def test_the_page_never_loads_torch(page: Page, tiny_studio: RunningStudio) -> None:
    open_studio(page, tiny_studio)
    page.get_by_role("tab", name="Report").click()
    page.get_by_role("button", name="Jobs").click()
    expect(page.get_by_text("No report yet")).to_be_visible()
    mapped = {mapping.path for mapping in psutil.Process(tiny_studio.process.pid).memory_maps()}
    assert [path for path in mapped if "libtorch" in path] == []
