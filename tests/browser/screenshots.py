"""Take the README's pictures of the page into docs/: `make screenshots`.

They show what is in the studio's data folder (DUO_STUDIO_DATA), so run `make demo` or the page's demo before.
"""

from __future__ import annotations

import sys

from playwright.sync_api import Page, expect

from studio.settings import REPOSITORY, Settings
from studio.store import Store
from tests.browser.running import chromium_path, running_browser, running_studio

DOCS = REPOSITORY / "docs"
WIDTH, HEIGHT = 1280, 900
PROMPTS = "a knight in a red shirt on the beach\na samurai in a blue shirt in the forest"


def main() -> int:
    settings = Settings.from_environment()
    store = Store(settings.database)
    trained, evaluated = store.list_checkpoints(), store.list_evaluations()
    store.close()
    if chromium_path() is None:
        print("There is no Chromium here; install it first, say with apt-get install chromium.", file=sys.stderr)
        return 2
    if not trained or not evaluated:
        print(f"{settings.data} holds no trained model or no report; run make demo first.", file=sys.stderr)
        return 2
    DOCS.mkdir(exist_ok=True)
    with running_studio(settings) as studio, running_browser() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(300_000)
        expect.set_options(timeout=300_000)
        page.goto(studio.url)
        compare(page)
        page.screenshot(path=DOCS / "screenshot-compare.png")
        page.get_by_role("tab", name="Report").click()
        expect(page.locator(".duo-bar").first).to_be_visible()
        page.screenshot(path=DOCS / "screenshot-report.png")
    print(f"Wrote screenshot-compare.png and screenshot-report.png into {DOCS}.")
    return 0


def compare(page: Page) -> None:
    """Original and the newest model of each method, by two prompts that never say the word."""
    expect(page.get_by_label("Original")).to_be_checked()
    page.get_by_label("Prompts, one a line").fill(PROMPTS)
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".duo-cell .duo-pill").nth(5)).to_be_visible()
    expect(page.get_by_role("button", name="Compare")).to_be_visible()
    page.wait_for_function("[...document.images].every(image => image.complete)")


if __name__ == "__main__":
    sys.exit(main())
