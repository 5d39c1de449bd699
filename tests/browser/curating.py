"""A running page with pairs to judge, and how a visitor of the Curate tab is driven and watched."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from studio.records import ImagePair, Project
from studio.store import Store
from tests.browser.running import RunningStudio, visit
from tests.curation_data import add_pairs, agree

PAIRS = 12


class Bench:
    """A running page with a store beside it, and one fresh project a test."""

    def __init__(self, studio: RunningStudio) -> None:
        self.studio = studio
        self.store = Store(studio.settings.database)

    def project(self, name: str, count: int = PAIRS, *, blur: bool = False) -> tuple[Project, list[ImagePair]]:
        project = self.store.create_project(Project("", name, "sword", "toybox", "toybox", blur=blur))
        agree(self.store, project, "you")
        return project, add_pairs(self.store, self.studio.settings, project, count)

    def open(self, page: Page, project: Project) -> None:
        visit(page, f"{self.studio.url}?project={project.id}")
        page.get_by_role("tab", name="Curate").click()
        expect(page.locator(f'.duo-curate[data-project="{project.id}"]')).to_be_visible()

    def verdicts(self, project: Project) -> list[tuple[str, str]]:
        return [(verdict.verdict, verdict.reason) for verdict in self.store.list_verdicts(project.id)]


def in_hand(page: Page) -> str:
    """The id of the pair whose pictures are shown."""
    expect(page.locator(".cur-stage:not(.is-loading)")).to_be_visible()
    return page.locator(".cur-stage").get_attribute("data-pair") or ""


def see(page: Page, pair: ImagePair) -> None:
    expect(page.locator(f'.cur-stage[data-pair="{pair.id}"]:not(.is-loading)')).to_be_visible()


def said(page: Page, words: str) -> None:
    expect(page.locator('.cur-lines [data-is="said"]')).to_contain_text(words)


def saved(bench: Bench, page: Page, project: Project, count: int) -> None:
    """Wait until so many rows are there."""
    for _ in range(1200):
        if len(bench.verdicts(project)) >= count:
            break
        page.wait_for_timeout(50)
    assert len(bench.verdicts(project)) == count


class Finger:
    """A finger on the left picture, by Chromium's own touch events."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.chromium = page.context.new_cdp_session(page)
        box = page.locator('[data-place="left"] .cur-frame').bounding_box()
        assert box is not None
        self.x, self.y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def at(self, kind: str, x: float = 0, y: float = 0) -> None:
        points = [] if kind == "touchEnd" else [{"x": self.x + x, "y": self.y + y}]
        self.chromium.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def swipe(self, x: float, y: float) -> None:
        self.at("touchStart")
        for step in (0.25, 0.5, 0.75, 1):
            self.at("touchMove", x * step, y * step)
        self.at("touchEnd")
