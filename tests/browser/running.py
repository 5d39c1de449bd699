"""The real page in its own process, and Chromium to look at it: shared by the browser tests and the screenshots."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from studio.jobs import LIVE
from studio.processes import signal_worker
from studio.settings import REPOSITORY, Settings
from studio.store import Store

START_SECONDS = 120.0  # generous: a busy machine is not a failure
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class RunningStudio:
    """A page that answers."""

    url: str
    process: subprocess.Popen[bytes]
    settings: Settings
    seconds: float  # from start to the first answer


def chromium_path() -> str | None:
    """Chromium without its window, which takes half the time, or another one that is installed; None without any."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def running_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def running_studio(settings: Settings, port: int = 0) -> Iterator[RunningStudio]:
    """Start app.py with these settings, on a free port if none is given; it and what it started end with the block."""
    settings.create_folders()
    port = port or _free_port()
    log = settings.data / "page.log"
    environment = {**os.environ, **settings.environment(), "GRADIO_SERVER_PORT": str(port)}
    environment["GRADIO_SERVER_NAME"] = "127.0.0.1"
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        url = f"http://127.0.0.1:{port}/"
        while not _answers(url):
            if process.poll() is not None or time.monotonic() - started > START_SECONDS:
                raise RuntimeError(f"The page did not start:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.05)
        yield RunningStudio(url, process, settings, time.monotonic() - started)
    finally:
        process.terminate()
        process.wait(timeout=20)
        _kill_workers(settings)


def tiny_settings(data: Path, toybox: Path, *, prewarm: bool = False) -> Settings:
    """A tiny model on one thread of the CPU. It loads when it is to draw: most tests have no use for it."""
    return Settings(data, device="cpu", threads=1, toybox=toybox, prewarm=prewarm)


def visit(page: Page, url: str) -> None:
    """Open the page and wait until it is filled and listens: what is done before is lost."""
    page.goto(url)
    expect(page.locator('html[data-duo="ready"]')).to_be_attached()


def settle(page: Page) -> None:
    """Wait until the page has nothing to do: what a tab or panel was filled with while shut comes into its fields after
    it opens, which takes some frames where the machine is busy.
    """
    page.evaluate(
        """async () => {
            const frame = () => new Promise((done) => requestAnimationFrame(done));
            const idle = () => new Promise((done) => requestIdleCallback(done, {timeout: 5000}));
            for (const wait of [frame, idle, frame, idle]) await wait();
        }"""
    )


def _kill_workers(settings: Settings) -> None:
    """A job outlives its page, as it should; but what a failed test left would slow down every test after it."""
    store = Store(settings.database)
    for job in store.list_jobs(states=LIVE):
        if job.pid is not None and job.pid_started is not None:
            signal_worker(job.pid, job.pid_started, job.id, signal.SIGKILL)
    store.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
