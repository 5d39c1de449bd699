"""Take the README's pictures of the page into docs/: `make screenshots`. They show the shipped sample project."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect

from studio.settings import REPOSITORY, Settings
from tests.browser.running import chromium_path, running_browser, running_studio, visit

DOCS = REPOSITORY / "docs"
WIDTH, HEIGHT = 1280, 900
TABS = ("Prompts", "Curate", "Train", "Report")
PROMPTS = "a knight in a red shirt on the beach\na samurai in a blue shirt in the forest"


def main() -> int:
    if chromium_path() is None:
        print("There is no Chromium here; install it first, say with apt-get install chromium.", file=sys.stderr)
        return 2
    DOCS.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        running_studio(Settings(Path(data))) as studio,
        running_browser() as browser,
    ):
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(300_000)
        expect.set_options(timeout=300_000)
        visit(page, studio.url)
        page.get_by_role("button", name="Open the sample project").click()
        expect(page.locator(".duo-path li.is-done")).to_have_count(5)
        compare(page)
        page.screenshot(path=DOCS / "screenshot-compare.png")
        for tab in TABS:
            page.get_by_role("tab", name=tab, exact=True).click()
            page.wait_for_timeout(2500)  # pictures and charts come by a tick
            page.screenshot(path=DOCS / f"screenshot-{tab.lower()}.png")
    print(f"Wrote {len(TABS) + 1} pictures into {DOCS}.")
    return 0


def compare(page: Page) -> None:
    """Original, DUO and ESD, by two prompts that never say the word."""
    expect(page.locator("#duo-models")).to_contain_text("DUO")
    page.get_by_label("Prompts, one a line").fill(PROMPTS)
    page.locator("#duo-go").click()
    expect(page.locator("#duo-pictures .duo-cell .duo-pill").nth(5)).to_be_visible()
    page.wait_for_function("[...document.images].every(image => image.complete)")


if __name__ == "__main__":
    sys.exit(main())
