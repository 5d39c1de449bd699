"""How soon the page can be used, and how soon it draws: `python -m benchmarks.bench_page`. Prints JSON.

Starts app.py RUNS times and waits for its first answer. The first start after an installation is slower, since Python
compiles what it imports: it is reported apart. Processor time does not depend on what else the machine does. With
Chromium and the embedded checkpoint also: from the start of app.py until the form is filled, and from a click on
Compare until the first picture, cold (the worker has to load PyTorch) and warm.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import Page

from studio.settings import Settings
from tests.browser.running import chromium_path, running_browser, running_studio

RUNS = 4
PATIENCE = 300_000  # milliseconds


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(Path(folder))
        figures = {"benchmark": "page", **starts(settings)}
        if chromium_path() is not None and (settings.toybox / "model_index.json").is_file():
            figures |= pictures(settings)
    load = [round(value, 1) for value in os.getloadavg()]
    print(json.dumps({**figures, "python": platform.python_version(), "cores": os.cpu_count(), "load": load}))


def starts(settings: Settings) -> dict[str, float]:
    """Seconds until the page answers."""
    seconds: list[float] = []
    processor: list[float] = []
    for _ in range(RUNS):
        with running_studio(settings) as studio:
            used = psutil.Process(studio.process.pid).cpu_times()
            seconds.append(studio.seconds)
            processor.append(used.user + used.system)
    return {
        "first_start_seconds": round(seconds[0], 2),
        "warm_start_seconds": round(statistics.median(seconds[1:]), 2),
        "warm_processor_seconds": round(statistics.median(processor[1:]), 2),
        "runs": RUNS,
    }


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
            cold, warm = first_picture(page), first_picture(page)
    return {
        "usable_seconds": round(usable, 2),
        "first_picture_cold_seconds": round(cold, 2),
        "first_picture_warm_seconds": round(warm, 2),
    }


def first_picture(page: Page) -> float:
    """Another seed each time, so that nothing can be remembered."""
    page.get_by_role("button", name="Random").click()
    page.evaluate("document.querySelectorAll('.duo-cell').forEach(cell => cell.remove())")
    clicked = time.monotonic()
    page.get_by_role("button", name="Compare").click()
    page.locator(".duo-cell img").first.wait_for()
    seconds = time.monotonic() - clicked
    page.get_by_role("button", name="Compare").wait_for()
    return seconds


if __name__ == "__main__":
    main()
