"""Care for reviewers in Chromium: the notice, grey and small pictures, ways to reveal, a break, the end of the day."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from studio.care import Care
from studio.records import ImagePair, Project
from tests.browser.axe import axe_problems
from tests.browser.curating import Bench, in_hand, saved, see
from tests.browser.running import running_studio, tiny_settings, visit
from tests.curation_data import add_pairs, agree

MEASURE = """async (image) => {
  await image.decode();
  const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 320 });
  const drawn = canvas.getContext('2d');
  drawn.drawImage(image, 0, 0, 320, 320);
  const { data } = drawn.getImageData(0, 0, 320, 320);
  let [steps, tint] = [0, 0];
  for (let i = 4; i < data.length; i += 4) {
    steps += Math.abs(data[i] - data[i - 4]);
    tint = Math.max(tint, Math.max(...data.slice(i, i + 3)) - Math.min(...data.slice(i, i + 3)));
  }
  return [steps / (data.length / 4), tint];
}"""


@pytest.fixture(scope="module")
def bench(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    settings = tiny_settings(tmp_path_factory.mktemp("data"), tiny_folder)
    with running_studio(settings) as studio:
        bench = Bench(studio)
        yield bench
        bench.store.close()


def sensitive(bench: Bench, name: str, **more: object) -> tuple[Project, list[ImagePair]]:
    project = bench.store.create_project(Project("", name, "sword", "toybox", "toybox", blur=True, **more))  # type: ignore[arg-type]
    return project, add_pairs(bench.store, bench.studio.settings, project, 6)


def measured(page: Page, side: str) -> tuple[float, float]:
    """(mean step between neighbouring pixels, the farthest from grey) of a picture as Chromium drew it, of 255."""
    return tuple(page.locator(f'[data-place="left"] img.of-{side}').evaluate(MEASURE))


def width_of(page: Page) -> float:
    box = page.locator('[data-place="left"] .cur-frame').bounding_box()
    assert box is not None
    return box["width"]


def test_the_notice_comes_first_and_once(bench: Bench, browser: Browser) -> None:
    project, pairs = sensitive(bench, "Notice", notice="Our counsellor is Eve.")
    page = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme="dark", reduced_motion="reduce")
    page.set_default_timeout(60_000)
    asked: list[str] = []
    answers: list[Response] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda answer: answers.append(answer) if "/studio/" in answer.url else None)
    bench.open(page, project)
    notice = page.locator(".cur-notice")
    expect(notice).to_contain_text("skip any pair and stop at any time")
    expect(notice).to_contain_text("Our counsellor is Eve.")
    expect(page.get_by_role("heading", name="Before you look at")).to_be_focused()
    expect(page.locator(".cur-desk")).to_be_hidden()
    assert not axe_problems(page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    page.keyboard.press("a")
    notice.get_by_role("button", name="No, take me back").click()
    expect(page.get_by_role("tab", name="Compare", exact=True)).to_have_attribute("aria-selected", "true")
    page.get_by_role("tab", name="Curate").click()
    assert not [url for url in asked if "/pairs/" in url or "/next" in url]
    assert not [answer.url for answer in answers if "knight on" in answer.text() or "pirate at" in answer.text()]
    assert bench.store.list_consents(project.id) == []

    name = notice.get_by_label("Your name")
    name.fill("Ann")
    name.press("Enter")
    see(page, pairs[0])
    expect(page.get_by_label("Your name", exact=True)).to_have_value("Ann")
    assert [row["reviewer"] for row in bench.store.list_consents(project.id)] == ["Ann"]
    visit(page, page.url)
    page.get_by_role("tab", name="Curate").click()
    see(page, pairs[0])
    expect(notice).to_be_hidden()
    page.get_by_label("Your name", exact=True).fill("Bob")
    page.get_by_label("Your name", exact=True).press("Tab")
    expect(notice).to_be_visible()
    assert "knight on the beach" not in page.locator(".duo-curate").inner_html()
    page.close()


def test_settings_hold_in_another_browser_and_grey_is_sent_grey(bench: Bench, browser: Browser, page: Page) -> None:
    project, pairs = sensitive(bench, "Settings")
    agree(bench.store, project, "Gus")
    page.add_init_script("localStorage.setItem('duo-curate-reviewer', 'Gus')")
    bench.open(page, project)
    see(page, pairs[0])
    page.keyboard.press("a")  # unrevealed
    see(page, pairs[1])
    before = width_of(page)
    page.get_by_role("button", name="Care", exact=True).click()
    dialog = page.get_by_role("dialog", name="Care")
    expect(dialog).to_contain_text("kept here under your name: Gus")
    expect(dialog.get_by_label("Remind me of a break")).to_have_value("20")
    assert not axe_problems(page)
    dialog.get_by_label("Shades of grey").check()
    dialog.get_by_label("Small pictures").check()
    dialog.locator('[name="reveal"]').select_option("press")
    dialog.get_by_role("button", name="Save", exact=True).click()
    expect(dialog).to_be_hidden()
    saved(bench, page, project, 1)
    assert not bench.store.list_verdicts(project.id)[0].revealed

    other = browser.new_page(viewport={"width": 1280, "height": 900})
    other.add_init_script("localStorage.setItem('duo-curate-reviewer', 'Gus')")
    bench.open(other, project)
    shown = in_hand(other)
    assert width_of(other) < before / 2
    button = other.get_by_role("button", name="Reveal")
    other.keyboard.press("v")
    expect(other.locator(".cur-stage.is-revealed")).to_be_visible()
    expect(button).to_have_attribute("aria-pressed", "true")
    for side in ("unsafe", "safe"):
        detail, tint = measured(other, side)
        assert tint <= 2
        assert detail > 5
    other.keyboard.press("v")
    expect(other.locator(".cur-stage.is-revealed")).to_be_hidden()
    button.focus()
    other.keyboard.press("Enter")
    expect(other.locator(".cur-stage.is-revealed")).to_be_visible()
    other.keyboard.press("ArrowRight")
    expect(other.locator(f'.cur-stage:not([data-pair="{shown}"])')).to_be_visible()
    expect(other.locator(".cur-stage.is-revealed")).to_be_hidden()  # the next pair comes blurred again
    other.close()
    see(page, pairs[1])
    bench.store.set_care("Gus", Care(reveal="always"))
    expect(page.locator(".cur-stage.is-revealed")).to_be_visible()  # at the next poll


def test_a_break_pauses_the_time_and_the_day_ends_calmly(bench: Bench, browser: Browser, page: Page) -> None:
    project, pairs = sensitive(bench, "Breaks", day_pairs=3)
    agree(bench.store, project, "Kay")
    bench.store.set_care("Kay", Care(break_minutes=0.01))
    page.add_init_script("localStorage.setItem('duo-curate-reviewer', 'Kay')")
    bench.open(page, project)
    see(page, pairs[0])
    page.wait_for_timeout(700)
    page.keyboard.press("s")
    rest = page.get_by_role("dialog", name="Time for a break")
    expect(rest).to_be_visible()
    expect(rest.get_by_role("button", name="I am back")).to_be_focused()
    expect(page.locator(".cur-stage")).to_be_hidden()
    page.keyboard.press("a")  # decides nothing
    assert not axe_problems(page)
    page.wait_for_timeout(1500)
    bench.store.set_care("Kay", Care(break_minutes=0))
    rest.get_by_role("button", name="In 1 minute").click()
    expect(rest).to_be_hidden()
    see(page, pairs[1])
    page.keyboard.press("a")
    saved(bench, page, project, 2)
    skipped, accepted = bench.store.list_verdicts(project.id)
    assert accepted.milliseconds < 1000 * (accepted.created - skipped.created) - 1500  # without the break
    bench.store.set_care("Kay", Care(break_minutes=0.001))
    expect(rest).to_be_visible()
    expect(rest.get_by_role("button", name="In 1 minute")).to_be_hidden()  # put off once
    bench.store.set_care("Kay", Care(break_minutes=0))
    rest.get_by_role("button", name="I am back").click()
    see(page, pairs[2])
    page.keyboard.press("r")

    calm = page.get_by_role("heading", name="That is enough for today")
    expect(calm).to_be_visible()
    expect(calm).to_be_focused()
    expect(page.locator(".cur-calm")).to_contain_text("limit of 3 pairs")
    expect(page.locator(".cur-desk")).to_be_hidden()
    assert not axe_problems(page)
    assert not [url for url in ("pairs", "next") if refused(page, project, url) != 403]
    visit(page, page.url)
    page.get_by_role("tab", name="Curate").click()
    expect(calm).to_be_visible()
    page.get_by_role("button", name="Care", exact=True).click()  # the owner sits at this machine
    page.get_by_role("button", name="Let Kay go on today").click()
    said_words = page.locator('[data-is="care-said"]')
    expect(said_words).to_contain_text("Kay may go on.")
    page.keyboard.press("Escape")
    expect(page.locator(".cur-desk")).to_be_visible()
    assert len(bench.verdicts(project)) == 3


def refused(page: Page, project: Project, what: str) -> int:
    answer = page.request.get(f"{page.url.split('?')[0]}studio/curation/{project.id}/{what}?reviewer=Kay")
    return answer.status
