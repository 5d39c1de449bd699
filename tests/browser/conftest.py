"""Fixtures of the browser tests: a running page with a tiny random model or with the embedded checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from studio.settings import Settings
from tests.browser.running import RunningStudio, chromium_path, running_browser, running_studio, tiny_settings

WAIT = 60_000  # milliseconds; the worker loads PyTorch first
expect.set_options(timeout=WAIT)
NOISE = ("favicon", "manifest.json")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if chromium_path() is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with running_browser() as launched:
        yield launched


@pytest.fixture(scope="session")
def tiny_studio(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStudio]:
    settings = tiny_settings(tmp_path_factory.mktemp("data"), tiny_folder, prewarm=True)
    with running_studio(settings) as studio:
        yield studio


@pytest.fixture(scope="session")
def embedded_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStudio]:
    """The page as a newcomer meets it. Skips only while the embedded checkpoint is not there."""
    settings = Settings(tmp_path_factory.mktemp("data"), device="cpu")
    if not (settings.toybox / "model_index.json").is_file():
        pytest.skip("models/toybox/weights holds no model_index.json: the embedded checkpoint is not trained yet")
    with running_studio(settings) as studio:
        yield studio


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh visitor at a desk; a script that fails on the page fails the test."""
    visitor = browser.new_page(viewport={"width": 1280, "height": 900})
    visitor.set_default_timeout(WAIT)
    problems: list[str] = []
    visitor.on("pageerror", lambda error: problems.append(str(error)))
    visitor.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    yield visitor
    visitor.close()
    assert [problem for problem in problems if not any(word in problem for word in NOISE)] == []
