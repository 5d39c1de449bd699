"""Eight reviewers at once on 100,000 pairs, over HTTP, on a server that is killed in the middle: `make bench-curation`.

Fills a data folder, starts app.py and lets REVIEWERS processes do what the page's script does: decide, ask what comes
next, fetch its two pictures; without the pause in which a person looks at them. A fifth of the pairs needs two reviews.
First the server is killed (SIGKILL) in the middle of BEFORE decisions and started again; one that was not answered is
told again with the same id, as the browser does. Then all open the tab at once, and WARM_UP and DECISIONS more follow.

    decision_p50_ms, decision_p99_ms    of the DECISIONS, from the request to the answer
    first_page_ms      from opening the tab to its first pair, of the reviewer who waits longest: numbers, what comes
                       next, the list below, the two pictures
    lost_or_doubled    decisions without a row, rows without a decision or two for one, and pairs whose kept decision is
                       not that of their rows
    rss_growth         the server's memory after the DECISIONS over that before them
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import random
import secrets
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult, Pool
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import psutil
from PIL import Image

from benchmarks.result import print_result
from studio.images import put_image
from studio.records import CONFLICT, SECOND, ImagePair, Project, PromptPair
from studio.settings import Settings
from studio.store import Store
from tests.browser.running import running_studio

PAIRS, PROMPTS, PICTURES = 100_000, 1_000, 64
REVIEWERS = 8
BEFORE, WARM_UP, DECISIONS = 1_000, 1_000, 10_000
SECOND_SHARE = 0.2
PATIENCE = 60.0  # seconds that a reviewer waits for a server that is gone
BARS = {
    "decision_p50_ms": 100.0,
    "decision_p99_ms": 250.0,
    "first_page_ms": 500.0,
    "lost_or_doubled": 0.0,
    "rss_growth": 1.1,
}


@dataclass(frozen=True)
class Desk:
    """Where a reviewer sits."""

    url: str
    project: str
    reviewer: str
    decisions: int


@dataclass(frozen=True)
class Decision:
    """One that was answered, and how long that took."""

    id: str
    pair: str
    reviewer: str
    verdict: str
    seconds: float


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(Path(folder), device="cpu")
        project = fill(settings)
        with multiprocessing.get_context("spawn").Pool(REVIEWERS) as pool:
            with running_studio(settings) as studio:
                told = killed_in_the_middle(settings, pool, studio.url, project)
                port = int(studio.url.rstrip("/").rsplit(":", 1)[1])
            with running_studio(settings, port) as studio:
                told = [decision for done in told.get() for decision in done]
                opening = pool.map(opened, desks(studio.url, project, 0), chunksize=1)
                told += review(pool, studio.url, project, WARM_UP)
                memory = psutil.Process(studio.process.pid).memory_info
                before, started = memory().rss, time.monotonic()
                timed = review(pool, studio.url, project, DECISIONS)
                seconds, after = time.monotonic() - started, memory().rss
        faults = wrong(settings, project, told + timed)
    times = sorted(1000 * decision.seconds for decision in timed)
    ratios = {
        "decision_p50_ms": statistics.median(times),
        "decision_p99_ms": times[int(0.99 * len(times))],
        "first_page_ms": 1000 * max(opening),
        "lost_or_doubled": sum(faults.values()),
        "rss_growth": after / before,
    }
    figures = {
        "decision_max_ms": round(times[-1], 1),
        "decisions_a_second": round(len(timed) / seconds, 1),
        "rss_mib": [round(size / 2**20) for size in (before, after)],
        "pairs": PAIRS,
        "decisions": len(told) + len(timed),
        "faults": faults,
    }
    print_result("curation", ratios, bars=BARS, **figures)


def fill(settings: Settings) -> Project:
    """A project with PAIRS ready pairs, which share a few pictures."""
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("", "Many", "sword", "toybox", "toybox", second_share=SECOND_SHARE))
    count = PAIRS // PROMPTS
    prompts = store.add_prompt_pairs(
        PromptPair("", project.id, f"a knight number {n}", f"a gardener number {n}", count) for n in range(PROMPTS)
    )
    noise = np.random.default_rng(0)
    colours = [Image.fromarray(noise.integers(0, 256, (8, 8, 3)).astype(np.uint8)) for _ in range(PICTURES)]
    names = [put_image(settings, np.asarray(one.resize((64, 64), Image.Resampling.BICUBIC))) for one in colours]
    chance = random.Random(0)
    with store.transaction():
        for number in range(PAIRS):
            unsafe, safe = chance.sample(names, 2)
            tries, scores = chance.randint(1, 6), (chance.random(), chance.random(), chance.random())
            place = (prompts[number // count].id, number % count, number)
            store.add_image_pair(ImagePair("", project.id, *place, "ready", unsafe, safe, 0.7, tries, *scores))
    store.close()
    return project


# -- reviewers ---------------------------------------------------------------------------------------------------------


def desks(url: str, project: Project, decisions: int) -> list[Desk]:
    return [Desk(url, project.id, f"Reviewer {n}", decisions // REVIEWERS) for n in range(REVIEWERS)]


def review(pool: Pool, url: str, project: Project, decisions: int) -> list[Decision]:
    """All reviewers at once, each its part of the decisions."""
    return [one for done in pool.map(reviewed, desks(url, project, decisions), chunksize=1) for one in done]


def killed_in_the_middle(
    settings: Settings, pool: Pool, url: str, project: Project
) -> AsyncResult[list[list[Decision]]]:
    """The reviewers at work on a server that is gone now."""
    told = pool.map_async(reviewed, desks(url, project, BEFORE), chunksize=1)
    store = Store(settings.database)
    while len(store.list_verdicts(project.id)) < BEFORE // 2:
        time.sleep(0.1)
    store.close()
    (server,) = [one for one in psutil.net_connections("tcp4") if is_listening(one, url)]
    psutil.Process(server.pid).kill()
    return told


def is_listening(connection: Any, url: str) -> bool:
    return connection.status == psutil.CONN_LISTEN and connection.laddr.port == urlsplit(url).port


def opened(desk: Desk) -> float:
    return Reviewer(desk).open()


def reviewed(desk: Desk) -> list[Decision]:
    return Reviewer(desk).work(desk.decisions)


class Reviewer:
    """One browser: a connection that is kept open, and opened again when the server was gone."""

    def __init__(self, desk: Desk) -> None:
        self.base = f"/studio/curation/{desk.project}"
        self.who = {"reviewer": desk.reviewer, "desk": secrets.token_hex(8)}
        self.chance = random.Random()
        self.connection = http.client.HTTPConnection(urlsplit(desk.url).netloc, timeout=PATIENCE)

    def open(self) -> float:
        """Seconds until the first pair can be seen."""
        started = time.perf_counter()
        self.get("counts")
        pair = self.get("next", limit=6)["pairs"][0]
        self.get("pairs", limit=24)
        self.look(pair)
        return time.perf_counter() - started

    def work(self, decisions: int) -> list[Decision]:
        pair = self.get("next", limit=6)["pairs"][0]
        told = []
        for _ in range(decisions):
            told.append(self.decide(pair))
            pair = self.get("next", limit=6, after=pair["id"])["pairs"][0]
            self.look(pair)
        return told

    def decide(self, pair: dict[str, Any]) -> Decision:
        verdict = self.chance.choice(("accept", "accept", "accept", "reject"))
        decision = {"id": secrets.token_hex(12), "pair": pair["id"], "version": pair["version"], "verdict": verdict}
        body = {**decision, "reviewer": self.who["reviewer"], "milliseconds": self.chance.randint(500, 5000)}
        started = time.perf_counter()
        self.ask(f"{self.base}/decide", body)
        seconds = time.perf_counter() - started
        return Decision(body["id"], body["pair"], body["reviewer"], verdict, seconds)

    def look(self, pair: dict[str, Any]) -> None:
        for side in ("unsafe", "safe"):
            self.ask(f"/{pair[side]['src']}")

    def get(self, path: str, **query: Any) -> Any:
        return json.loads(self.ask(f"{self.base}/{path}?{urlencode({**self.who, **query})}"))

    def ask(self, path: str, body: dict[str, Any] | None = None) -> bytes:
        """Asked again, the same, until there is an answer."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.asked(path, body)
            except (OSError, http.client.HTTPException):
                self.connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def asked(self, path: str, body: dict[str, Any] | None) -> bytes:
        headers = {"Content-Type": "application/json"} if body else {}
        self.connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {data.decode()[:300]}")
        return data


# -- what became of it -------------------------------------------------------------------------------------------------


def wrong(settings: Settings, project: Project, told: list[Decision]) -> dict[str, int]:
    """What should not be: see `lost_or_doubled`."""
    store = Store(settings.database)
    rows = store.list_verdicts(project.id)
    there, answered = {row.id for row in rows}, {decision.id for decision in told}
    times = Counter((row.pair_id, row.reviewer) for row in rows)
    voices: dict[str, list[str]] = {}
    for row in rows:
        voices.setdefault(row.pair_id, []).append(f"{row.reviewer}={row.verdict}")
    kept = {pair_id: standing(store, pair_id) for pair_id in voices}
    store.close()
    return {
        "lost": len(answered - there),
        "untold": len(there - answered),
        "doubled": sum(number - 1 for number in times.values()),
        "wrongly_kept": sum(kept[pair_id] not in allowed(pair_id, said) for pair_id, said in voices.items()),
    }


def standing(store: Store, pair_id: str) -> str:
    curated = store.curated_pair(pair_id)
    return curated.waits or (curated.verdict.verdict if curated.verdict else "")


def allowed(pair_id: str, said: list[str]) -> set[str]:
    """What the rows of one pair come to, in the order they were written; the draw takes ids from the lowest on."""
    verdicts = [one.rpartition("=")[2] for one in said]
    if int(pair_id[:4], 16) / 65536 >= SECOND_SHARE:
        return {verdicts[-1]}
    if len(said) == 1:
        return {SECOND + said[0].rpartition("=")[0]}
    return {CONFLICT} if len(set(verdicts)) > 1 else {verdicts[-1]}


if __name__ == "__main__":
    main()
