"""Stopping what may be illegal, in Chromium: never by accident, gone from every open page and from its cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from studio.records import ImagePair
from tests.browser.axe import axe_problems
from tests.browser.curating import Bench, see
from tests.browser.running import running_studio, tiny_settings


@pytest.fixture(scope="module")
def bench(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    settings = tiny_settings(tmp_path_factory.mktemp("data"), tiny_folder)
    with running_studio(settings) as studio:
        bench = Bench(studio)
        yield bench
        bench.store.close()


@pytest.fixture
def two(browser: Browser) -> Iterator[tuple[Page, Page]]:
    """Two reviewers' browsers, each with a cache of its own."""
    contexts = [browser.new_context(viewport={"width": 1280, "height": 900}) for _ in range(2)]
    pages = [context.new_page() for context in contexts]
    for page in pages:
        page.set_default_timeout(60_000)
    yield pages[0], pages[1]
    for context in contexts:
        context.close()


def status(page: Page, source: str) -> int:
    """What the browser answers for a picture as an <img> asks for it: from its cache, where it has it."""
    return int(page.evaluate("source => fetch(source).then((answer) => answer.status)", source))


def shows(page: Page, pair: ImagePair) -> int:
    """How many pictures of the pair are in the page."""
    return page.locator(f'img[src*="{pair.id}"], [data-pair="{pair.id}"]').count()


def test_no_key_and_no_slip_stops_a_pair(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Slips", 4)
    bench.open(page, project)
    see(page, pairs[0])
    page.get_by_role("button", name="Stop: this may be illegal").click()
    dialog = page.get_by_role("dialog", name="Stop: this may be illegal")
    stop = dialog.get_by_role("button", name="Stop this pair")
    expect(stop).to_be_disabled()
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("a")  # decides nothing under the dialog
    page.keyboard.press("Enter")  # presses what has the focus: Cancel
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Stop: this may be illegal").click()
    dialog.get_by_label("Yes, hide this pair").check()
    expect(stop).to_be_enabled()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Stop: this may be illegal").click()
    expect(stop).to_be_disabled()  # asked anew each time
    dialog.get_by_role("button", name="Cancel").click()
    assert bench.store.list_stops(project.id) == []
    assert bench.verdicts(project) == []


def test_a_stopped_pair_leaves_every_page_and_comes_back_when_it_is_lifted(
    bench: Bench, two: tuple[Page, Page]
) -> None:
    project, pairs = bench.project("Stopped", 6)
    ann, bob = two
    for page in two:
        bench.open(page, project)
    see(ann, pairs[0])
    bob.locator(f'.cur-thumb[data-pair="{pairs[0].id}"]').click()
    see(bob, pairs[0])
    source = bob.locator("img.of-unsafe").first.get_attribute("src") or ""
    assert [status(page, source) for page in two] == [200, 200]
    on_its_way: list[Route] = []
    bob.route("**/decide", lambda route: on_its_way.append(route))
    bob.keyboard.press("a")
    expect(bob.locator('.cur-lines [data-is="said"]')).to_contain_text("Accepted")
    ann.get_by_role("button", name="Stop: this may be illegal").click()
    ann.get_by_label("What the owner should know").fill("looks real")
    ann.get_by_label("Yes, hide this pair").check()
    ann.get_by_role("button", name="Stop this pair").click()
    told = ann.get_by_role("dialog", name="Pairs that may be illegal")
    expect(told).to_contain_text("Do not copy, send, print or show")
    expect(told).to_contain_text("NCMEC CyberTipline")
    expect(told).to_contain_text("Stopped by you")
    assert axe_problems(ann) == ""
    told.get_by_role("button", name="Close").click()
    (decision,) = on_its_way
    decision.continue_()
    expect(bob.locator('.cur-lines [data-is="said"]')).to_contain_text("Not saved: The pair")
    assert bench.verdicts(project) == []
    for page in two:
        expect(page.get_by_text("1 pair is stopped: may be illegal.")).to_be_visible()
        expect(page.locator('[data-is="progress"]')).to_contain_text("0 of 5 decided")
        expect(page.locator(".cur-stage:not(.is-loading)")).to_be_visible()
        expect(page.locator(f'.cur-thumb[data-pair="{pairs[0].id}"]')).to_have_count(0)
        assert shows(page, pairs[0]) == 0
        assert status(page, source) == 404  # not even from the cache
    ann.keyboard.press("ArrowLeft")  # not by going back either
    ann.wait_for_timeout(500)
    assert shows(ann, pairs[0]) == 0

    ann.get_by_role("button", name="What the owner must do").click()
    told.get_by_text("Show it again").click()
    told.get_by_role("button", name="Lift this stop").click()
    expect(told).to_contain_text("Not lifted: say why it may be shown")
    told.get_by_label("Why it may be shown").fill("a cartoon")
    told.get_by_role("button", name="Lift this stop").click()
    expect(told).to_contain_text("Lifted: everybody can see the pair again.")
    told.get_by_role("button", name="Close").click()
    for page in two:
        expect(page.locator(f'.cur-thumb[data-pair="{pairs[0].id}"]')).to_be_visible()
        assert status(page, source) == 200
    history = [(row.action, row.reviewer, row.reason) for row in bench.store.list_stops(project.id)]
    assert history == [("stop", "you", "looks real"), ("lift", "you", "a cartoon")]
