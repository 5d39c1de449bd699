"""A newcomer's whole way on the embedded checkpoint: own prompts, pairs, decisions, a real training, pictures, report.

In the middle the server is started anew, and the page that stays open goes on.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from studio.settings import Settings
from studio.store import Store
from tests.browser.running import running_studio, settle, visit

PAIRS = 4
STEPS = "3"


def test_from_prompts_to_report(browser: Browser, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "data", device="cpu", threads=1)
    page = browser.new_page(viewport={"width": 1280, "height": 900})  # its console may speak of the absent server
    with running_studio(settings) as studio:
        visit(page, studio.url)
        open_the_sample(page)
        make_a_project(page)
        make_pairs(page)
        port = int(studio.url.rstrip("/").rsplit(":", 1)[1])
    with running_studio(settings, port=port):
        curate(page)
        train(page)
        compare(page)
        report(page)
    page.close()
    store = Store(settings.database)
    project = store.list_projects()[-1]
    assert store.pair_counts(project.id).accepted == PAIRS
    assert [verdict.reviewer for verdict in store.list_verdicts(project.id)] == ["you"] * PAIRS
    assert store.list_checkpoints(project.id)[0].config["steps"] == int(STEPS)
    assert {job.state for job in store.list_jobs(project.id)} == {"done"}
    store.close()


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def open_the_sample(page: Page) -> None:
    """Finished at once: accepted pairs, two trained models, a report."""
    page.get_by_role("button", name="Open the sample project").click()
    expect(page.locator(".duo-path")).to_contain_text("96 accepted")
    expect(page.locator(".duo-path li.is-done")).to_have_count(5)
    expect(page.get_by_role("button", name="Open the sample project")).to_be_hidden()
    open_tab(page, "Report")
    expect(page.get_by_text("Is the sword gone?")).to_be_visible()


def make_a_project(page: Page) -> None:
    page.get_by_role("button", name="New project").click()
    page.get_by_label("Name", exact=True).fill("My own")
    page.get_by_label("Concept to forget").fill("sword")
    page.get_by_role("button", name="Create the project").click()
    expect(page.locator(".duo-path li.is-next")).to_contain_text("Prompts")


def make_pairs(page: Page) -> None:
    page.locator('.duo-path [data-open-tab="Prompts"]').click()
    page.get_by_label("Unsafe template").fill("a {knight|warrior} in a {red|blue} shirt on the beach")
    page.get_by_label("Safe template", exact=True).fill("a {gardener|clown} in a {red|blue} shirt on the beach")
    page.get_by_role("button", name=f"Add {PAIRS} prompt pairs").click()
    page.get_by_role("button", name="Make the pictures").click()
    expect(page.get_by_text(f"All wanted pairs are settled: {PAIRS} ready, 0 failed.")).to_be_visible()
    expect(page.locator(".duo-pair")).to_have_count(PAIRS)


def curate(page: Page) -> None:
    """The page is the one that was open before the restart."""
    open_tab(page, "Curate")
    expect(page.locator('[data-is="progress"]')).to_contain_text(f"0 of {PAIRS} decided")
    for decided in range(1, PAIRS + 1):
        expect(page.locator(".cur-stage:not(.is-loading)")).to_be_visible()
        page.keyboard.press("a")
        expect(page.locator('[data-is="progress"]')).to_contain_text(f"{decided} of {PAIRS} decided")
    expect(page.locator(".duo-path")).to_contain_text(f"{PAIRS} of 32 accepted")


def train(page: Page) -> None:
    open_tab(page, "Train")
    expect(page.locator("#duo-train-ground")).to_contain_text(f"Only {PAIRS} accepted pairs")
    page.locator("#duo-duo-steps").locator("input, textarea").fill(STEPS)
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator(".duo-training .duo-pill")).to_have_text("done")
    expect(page.locator(".duo-film thead th").first).to_have_text("original")


def compare(page: Page) -> None:
    page.get_by_role("link", name="See it in Compare").click()
    expect(page.locator("#duo-models label", has_text="DUO").locator("input")).to_be_checked()
    page.locator("#duo-go").click()
    expect(page.locator(".duo-head h3")).to_have_text(["Original", "Never saw a sword", "DUO"])
    expect(page.locator("#duo-pictures .duo-cell .duo-pill")).to_have_count(3)
    expect(page.locator("#duo-pictures .duo-cell img")).to_have_count(3)


def report(page: Page) -> None:
    open_tab(page, "Report")
    page.get_by_role("button", name="Evaluate models").click()
    settle(page)
    page.locator("#duo-evaluate-n input, #duo-evaluate-n textarea").first.fill("2")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    expect(page.get_by_text("Is the sword gone?")).to_be_visible()
    expect(page.locator('[aria-label="Every figure"] thead th')).to_have_text(["Original", "DUO", "Oracle"])
    expect(page.locator(".duo-path li.is-done")).to_have_count(4)  # all but Curate: 32 pairs are wanted
