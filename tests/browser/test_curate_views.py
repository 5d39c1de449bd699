"""The Curate tab's other views in Chromium: many pairs by mouse and keys, triage, two reviewers, quality."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from studio.records import ImagePair, Project, Verdict
from tests.browser.axe import axe_problems
from tests.browser.running import running_studio, tiny_settings, visit
from tests.browser.test_curate import Bench

PAIRS = 12


@pytest.fixture(scope="module")
def bench(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    settings = tiny_settings(tmp_path_factory.mktemp("data"), tiny_folder)
    with running_studio(settings) as studio:
        bench = Bench(studio)
        yield bench
        bench.store.close()


def show(bench: Bench, page: Page, project: Project, view: str) -> None:
    visit(page, f"{bench.studio.url}?project={project.id}")
    page.get_by_role("tab", name="Curate").click()
    page.get_by_role("button", name=view, exact=True).click()
    expect(page.locator(f'.duo-view[data-project="{project.id}"]:visible')).to_be_visible()


def cell(page: Page, pair: ImagePair) -> object:
    return page.locator(f'.grd-cell[data-pair="{pair.id}"]')


def decided(bench: Bench, page: Page, project: Project, accepted: int, rejected: int) -> None:
    """Wait until so many pairs stand so."""
    for _ in range(600):
        counts = bench.store.pair_counts(project.id)
        if (counts.accepted, counts.rejected) == (accepted, rejected):
            break
        page.wait_for_timeout(50)
    assert (counts.accepted, counts.rejected) == (accepted, rejected)


def test_pairs_are_chosen_and_decided_on_by_mouse_and_keys(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Grid", PAIRS)
    show(bench, page, project, "Grid")
    expect(page.locator(".grd-cell")).to_have_count(PAIRS)
    chosen = page.locator('.grd-cell[aria-selected="true"]')
    cell(page, pairs[1]).click()
    cell(page, pairs[4]).click(modifiers=["Shift"])
    expect(chosen).to_have_count(4)
    cell(page, pairs[2]).click()
    expect(chosen).to_have_count(3)
    page.keyboard.press("a")
    expect(page.locator(".duo-grid-view [data-is=said]")).to_contain_text("3 pairs accepted")
    decided(bench, page, project, 3, 0)
    expect(page.locator(".grd-cell")).to_have_count(PAIRS - 3)
    page.keyboard.press("u")
    decided(bench, page, project, 0, 0)
    expect(page.locator(".grd-cell")).to_have_count(PAIRS)

    page.locator(".grd-cell").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    expect(chosen).to_have_count(2)
    page.locator("[data-is=reason]").select_option("too different")
    page.get_by_role("button", name="Reject R").click()
    decided(bench, page, project, 0, 2)
    assert {v.reason for v in bench.store.list_verdicts(project.id)[-2:]} == {"too different"}
    assert {v.pair_id for v in bench.store.list_verdicts(project.id)[-2:]} == {pairs[1].id, pairs[2].id}

    page.locator(".grd-cell").first.focus()
    page.keyboard.press("Control+a")
    expect(page.locator("[data-is=chosen-count]")).to_contain_text("All 10 pairs")
    page.keyboard.press("s")
    expect(page.get_by_role("dialog")).to_contain_text("Skip 10 pairs")
    page.get_by_role("button", name="Leave it").click()
    page.keyboard.press("Escape")
    expect(page.locator(".grd-chosen")).to_be_hidden()
    assert bench.store.pair_counts(project.id).skipped == 0
    page.locator(".grd-cell").nth(3).focus()
    page.keyboard.press("Enter")
    expect(page.locator(f'.cur-stage[data-pair="{pairs[5].id}"]')).to_be_visible()


def test_a_triage_is_looked_at_taken_and_taken_back(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Triage", PAIRS, blur=True)
    accept = [pair for pair in pairs if pair.unsafe_score >= 0.75 and pair.safe_score < 0.1]
    reject = [pair for pair in pairs if pair.safe_score >= 0.1]
    assert accept
    assert reject
    show(bench, page, project, "Grid")
    page.get_by_role("button", name="Thresholds").click()
    page.get_by_label("Accept: unsafe score ≥").fill("0.75")
    page.get_by_label("Reject: safe score ≥").fill("0.1")
    expect(page.locator('.grd-cell[data-proposal="accept"]')).to_have_count(len(accept))
    expect(page.locator('.grd-cell[data-proposal="reject"]')).to_have_count(len(reject))
    assert bench.verdicts(project) == []
    sources = page.locator(".grd-cell img").evaluate_all("images => images.map((image) => image.src)")
    assert sum("blur" in source for source in sources) >= PAIRS
    page.get_by_role("button", name="Decide as proposed").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Accept {len(accept)} pairs")
    expect(dialog).to_contain_text("triage: safe score at least 0.1")
    dialog.get_by_role("button", name=f"Reject {len(reject)} and accept {len(accept)}").click()
    decided(bench, page, project, len(accept), len(reject))
    visit(page, page.url)  # the undo is on the server
    page.get_by_role("tab", name="Curate").click()
    page.get_by_text("Actions on many pairs").click()
    page.get_by_role("button", name="Undo: Reject by triage").click()
    decided(bench, page, project, 0, 0)
    expect(page.locator(".grd-actions li")).to_contain_text("taken back")


def test_two_reviewers_disagree_and_the_owner_settles_it(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Blind", 3)
    show(bench, page, project, "Reviewers")
    page.get_by_label("Share of the pairs").fill("100")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.locator(".duo-reviewers [data-is=said]")).to_contain_text("100 % of the pairs")
    bench.store.add_verdict(Verdict("", pairs[0].id, "Ann", "accept"))
    page.get_by_role("button", name="Review", exact=True).click()
    page.get_by_label("Your name").fill("Bob")
    page.get_by_label("Your name").press("Tab")
    expect(page.locator(f'.cur-stage[data-pair="{pairs[0].id}"]')).to_be_visible()
    expect(page.locator("[data-is=decision]")).to_have_text("Not decided yet")  # nothing of Ann's
    page.locator(".cur-stage").focus()
    page.keyboard.press("r")
    for _ in range(600):
        if bench.store.pair_counts(project.id).conflicts:
            break
        page.wait_for_timeout(50)
    page.get_by_role("button", name="Reviewers", exact=True).click()
    expect(page.locator(".rev-card")).to_have_count(1)
    expect(page.locator(".rev-card li").first).to_contain_text("Ann accepts")
    page.locator(".rev-card").get_by_role("button", name="Reject").click()
    expect(page.locator(".rev-card")).to_have_count(0)
    decided(bench, page, project, 0, 1)
    expect(page.locator(".duo-reviewers [data-is=work]")).to_contain_text("Bob")


def test_near_duplicates_are_thinned_and_a_prompt_leads_to_its_pairs(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Quality", 4)
    first = pairs[0]
    for index in (70, 71):
        names = first.unsafe_image, first.safe_image
        bench.store.add_image_pair(ImagePair("", project.id, first.prompt_pair_id, index, 1, "ready", *names))
    show(bench, page, project, "Quality")
    expect(page.locator(".qua-row")).to_have_count(2)
    expect(page.locator(".qua-group")).to_have_count(1)
    page.get_by_role("button", name="Keep the first, reject the other 2").click()
    expect(page.locator(".qua-group")).to_have_count(0)
    decided(bench, page, project, 0, 2)
    page.locator(".duo-quality").get_by_role("button", name="Undo").click()
    decided(bench, page, project, 0, 0)
    page.locator(".qua-row", has_text="pirate").click()
    expect(page.locator(".grd-cell")).to_have_count(2)
    page.get_by_role("button", name="All prompts").click()
    expect(page.locator(".grd-cell")).to_have_count(6)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_a_phone_is_wide_enough(bench: Bench, browser: Browser, scheme: str) -> None:
    visitor = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    visitor.set_default_timeout(60_000)
    project, pairs = bench.project(f"Axe {scheme}", 6)
    bench.store.update_project(project.id, second_share=1.0)
    for pair in pairs[:4]:
        bench.store.add_verdict(Verdict("", pair.id, "Ann", "accept", milliseconds=900))
        bench.store.add_verdict(Verdict("", pair.id, "Bob", "reject" if pair is pairs[0] else "accept"))
    for view, there in (("Grid", ".grd-cell"), ("Quality", ".qua-row"), ("Reviewers", ".rev-card")):
        visitor.set_viewport_size({"width": 1280, "height": 900})
        show(bench, visitor, project, view)
        expect(visitor.locator(there).first).to_be_visible()
        if view == "Grid":
            visitor.get_by_role("button", name="Thresholds").click()
            visitor.get_by_role("button", name="Ranges").click()
            visitor.locator(".grd-cell").first.click()
        assert axe_problems(visitor) == ""
        visitor.set_viewport_size({"width": 390, "height": 844})
        assert visitor.evaluate("document.scrollingElement.scrollWidth") <= 390
        small = """() => [...document.querySelectorAll('.duo-view button, .duo-view select')]
            .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 44).map((one) => one.outerHTML)"""
        assert visitor.evaluate(small) == []
    visitor.close()
