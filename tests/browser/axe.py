"""axe, the judge of accessible pages, asked once everywhere: by the rules of WCAG 2.1 A and AA."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.running import settle

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
STILL = """() => document.getAnimations().every(
  (one) => !(one instanceof CSSTransition) || ['finished', 'idle'].includes(one.playState))"""


def axe_problems(page: Page) -> str:
    """What axe finds on the page as it is now, in words, once its colours have faded over; "" where that is nothing."""
    settle(page)  # a transition begins with the frame after its cause
    page.wait_for_function(STILL)
    results = Axe().run(page, options=RULES)
    return results.generate_report() if results.violations_count else ""
