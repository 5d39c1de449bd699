"""How soon the page can be used, draws, and answers while a job trains: `make bench-page`.

Starts app.py RUNS times and waits for its first answer; the first start after an installation compiles what it imports
and is reported apart. Then, in Chromium with the embedded checkpoint: from the start of app.py until the form is
filled, also after every tab was opened; from a click on Compare until the first picture, cold (the worker has to load
PyTorch) and warm; and, with the demo running in the background, how long every request of the page takes that does not
draw. Each ratio is a time over its bar: at most 1 is good.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import Page

from benchmarks.result import print_result
from studio.configs import DemoConfig
from studio.demo import create_demo_project
from studio.jobs import submit
from studio.settings import Settings
from studio.store import Store
from tests.browser.running import running_browser, running_studio

RUNS = 4
PATIENCE = 300_000  # milliseconds
BUSY_SECONDS = 60.0
TABS = ("Prompts", "Curate", "Train", "Compare", "Report")
BARS = {"usable": 6.0, "first_picture": 25.0, "next_picture": 6.0, "busy_p95": 0.5}  # seconds
REQUEST_SECONDS = """() => performance.getEntriesByType('resource')
  .filter(entry => /run\\/predict|studio\\//.test(entry.name)).map(entry => entry.duration / 1000)"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(Path(folder))
        seconds = starts(settings) | pictures(settings) | busy(settings)
    ratios = {f"{name}_over_bar": seconds[name] / bar for name, bar in BARS.items()}
    print_result("page", ratios, seconds={name: round(value, 3) for name, value in seconds.items()}, bars=BARS)


def starts(settings: Settings) -> dict[str, float]:
    """Seconds until the page answers, and of processor time, which does not depend on what else the machine does."""
    seconds: list[float] = []
    processor: list[float] = []
    for _ in range(RUNS):
        with running_studio(settings) as studio:
            used = psutil.Process(studio.process.pid).cpu_times()
            seconds.append(studio.seconds)
            processor.append(used.user + used.system)
    warm, warm_processor = statistics.median(seconds[1:]), statistics.median(processor[1:])
    return {"first_start": seconds[0], "start": warm, "start_processor": warm_processor}


def pictures(settings: Settings) -> dict[str, float]:
    """Seconds until the page can be used, and from clicks to pictures."""
    with running_browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto("about:blank")
        with running_studio(settings) as studio:
            opened = time.monotonic()
            page.goto(studio.url)
            page.locator("#duo-models input:checked").first.wait_for()
            usable = studio.seconds + time.monotonic() - opened
            for tab in TABS:
                page.get_by_role("tab", name=tab).click()
            page.get_by_role("tab", name="Compare").click()
            page.get_by_role("button", name="Compare", exact=True).wait_for()
            cold, warm = first_picture(page), first_picture(page)
    return {"usable": usable, "first_picture": cold, "next_picture": warm}


def first_picture(page: Page) -> float:
    """Another seed each time, so that nothing can be remembered."""
    page.get_by_role("button", name="Random").click()
    page.evaluate("document.querySelectorAll('.duo-cell').forEach(cell => cell.remove())")
    clicked = time.monotonic()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.locator(".duo-cell img").first.wait_for()
    seconds = time.monotonic() - clicked
    page.get_by_role("button", name="Compare", exact=True).wait_for()
    return seconds


def busy(settings: Settings) -> dict[str, float]:
    """Seconds of the page's requests while the demo makes pairs and trains: ticks, tabs, projects."""
    store = Store(settings.database)
    project = create_demo_project(store, DemoConfig(n=8))
    submit(store, settings, "demo", project.id, DemoConfig(n=8).model_dump())
    with running_studio(settings) as studio, running_browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{studio.url}?project={project.id}")
        page.locator("#duo-models input:checked").first.wait_for()
        while not store.list_jobs(project.id)[0].step:
            page.wait_for_timeout(500)
        page.evaluate("performance.clearResourceTimings(); performance.setResourceTimingBufferSize(10000)")
        ended = time.monotonic() + BUSY_SECONDS
        while time.monotonic() < ended:
            for tab in TABS:
                page.get_by_role("tab", name=tab).click()
                page.wait_for_timeout(700)
        seconds = sorted(page.evaluate(REQUEST_SECONDS))
        running = store.list_jobs(project.id)[0].state == "running"
    store.close()
    if not running or len(seconds) < 20:
        raise RuntimeError(f"The demo ended, or the page asked too little ({len(seconds)} requests): nothing measured.")
    return {"busy_p95": seconds[int(0.95 * len(seconds))], "busy_median": statistics.median(seconds)}


if __name__ == "__main__":
    main()
