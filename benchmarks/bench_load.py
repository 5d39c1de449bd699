"""Many people at once: `make bench-load`, or `python -m benchmarks.bench_load --minutes 10`.

Starts app.py as a public demo with the shipped sample, on which DUO trains all the while. 50 visitors have Compare
open, whose page asks for news every 1.5 seconds, and draw every half a minute or so; 8 reviewers who are signed in
judge pairs. All of it is HTTP as page and scripts send it, through the same door with its limits.

Ratios: errors are answers of 400 and more, time-outs and broken connections among all actions (a drawing that is told
to wait its turn is none); rss_growth is the web process's memory at the end over that after the first quarter;
page_action_p95_ms is of everything but drawing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.result import print_result
from studio.hosting.users import Users
from studio.jobs import stop, submit
from studio.presets import PRESETS
from studio.records import Job
from studio.sample import open_sample
from studio.settings import Settings
from studio.store import Store
from tests.browser.running import running_studio

VISITORS, REVIEWERS = 50, 8
POLL_SECONDS, DRAW_SECONDS, JUDGE_SECONDS = 1.5, 30.0, 1.5
PASSWORD = "only for this benchmark"


@dataclass
class Seen:
    """What all of them met."""

    seconds: list[float] = field(default_factory=list)
    drawings: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    async def ask(self, client: httpx.AsyncClient, method: str, path: str, **more: Any) -> httpx.Response | None:
        self.counts["actions"] += 1
        began = time.monotonic()
        try:
            answer = await client.request(method, path, **more)
        except httpx.HTTPError as error:
            self.counts["errors"] += 1
            self.counts[type(error).__name__] += 1
            return None
        self.seconds.append(time.monotonic() - began)
        if answer.status_code >= 400:
            self.counts["errors"] += 1
            self.counts[f"status {answer.status_code} of {path.split('?')[0]}"] += 1
            return None
        return answer


class Wiring:
    """Numbers of the page's events, read from its configuration as a browser does."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.props = {part["id"]: part["props"] for part in config["components"]}
        listeners = [one for one in config["dependencies"] if one["backend_fn"]]
        go = next(key for key, props in self.props.items() if props.get("elem_id") == "duo-go")
        self.open = max((one for one in listeners if one["targets"][0][1] == "load"), key=lambda d: len(d["outputs"]))
        look = next(key for key, props in self.props.items() if props.get("elem_id") == "duo-look")
        self.compare = next(one for one in listeners if [look, "click"] in [list(target) for target in one["targets"]])
        self.draw = next(one for one in listeners if [go, "click"] in [list(target) for target in one["targets"]])

    def values(self, answer: list[Any]) -> list[Any]:
        """What the form of Compare holds once the page was opened."""
        held = dict(zip(self.open["outputs"], answer, strict=True))
        return [self._value(held.get(key), self.props[key].get("value")) for key in self.draw["inputs"]]

    def _value(self, sent: Any, first: Any) -> Any:
        if isinstance(sent, dict) and "__type__" in sent:
            return sent.get("value", first)
        return first if sent is None else sent


async def visitor(number: int, url: str, until: float, seen: Seen) -> None:
    session, chance = secrets.token_hex(5), random.Random(number)
    headers = {"X-Forwarded-For": f"10.1.0.{number}"}
    await asyncio.sleep(chance.random() * 10)  # nobody comes at the same moment
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        await seen.ask(client, "GET", "/")
        config = await seen.ask(client, "GET", "/config")
        if config is None:
            return
        wiring = Wiring(config.json())
        opened = await seen.ask(client, "POST", "/gradio_api/run/predict", json=call(wiring.open, [], session))
        if opened is None:
            return
        values, mark = wiring.values(opened.json()["data"]), ""
        project = values[0]
        next_drawing = time.monotonic() + chance.random() * DRAW_SECONDS
        drawing: asyncio.Task[None] | None = None
        while time.monotonic() < until:
            news = await seen.ask(client, "GET", f"/studio/news/{project}")
            if news is not None and (new := news.json()["mark"]) != mark:
                mark = new
                asked = call(wiring.compare, [project, None], session)
                await seen.ask(client, "POST", "/gradio_api/run/predict", json=asked)
            if time.monotonic() > next_drawing and (drawing is None or drawing.done()):
                next_drawing = time.monotonic() + DRAW_SECONDS * (0.5 + chance.random())
                drawing = asyncio.create_task(draw(client, wiring, values, session, chance.randrange(10**6), seen))
            await asyncio.sleep(POLL_SECONDS)
        if drawing is not None:
            drawing.cancel()


async def draw(
    client: httpx.AsyncClient, wiring: Wiring, values: list[Any], session: str, seed: int, seen: Seen
) -> None:
    began = time.monotonic()
    asked = [seed if wiring.props[key].get("label") == "Seed" else v
             for key, v in zip(wiring.draw["inputs"], values, strict=True)]  # fmt: skip
    if await seen.ask(client, "POST", "/gradio_api/queue/join", json=call(wiring.draw, asked, session)) is None:
        return
    try:
        async with client.stream("GET", f"/gradio_api/queue/data?session_hash={session}", timeout=None) as answer:
            async for line in answer.aiter_lines():
                told = json.loads(line[5:]) if line.startswith("data:") else {}
                if told.get("msg") == "process_completed":
                    words = json.dumps(told["output"])
                    kind = "told to come later" if "comparisons wait already" in words else "drawn"
                    seen.counts[kind if told["success"] else "drawings that failed"] += 1
                    seen.drawings.append(time.monotonic() - began)
                    return
    except httpx.HTTPError:
        seen.counts["errors"] += 1


async def reviewer(number: int, url: str, until: float, seen: Seen) -> None:
    chance, headers = random.Random(1000 + number), {"X-Forwarded-For": f"10.2.0.{number}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        await seen.ask(client, "POST", "/studio/sign-in", data={"name": f"reviewer{number}", "password": PASSWORD})
        config = await seen.ask(client, "GET", "/config")
        if config is None:
            return
        wiring = Wiring(config.json())
        opened = await seen.ask(client, "POST", "/gradio_api/run/predict", json=call(wiring.open, [], f"r{number}"))
        base, after = f"/studio/curation/{wiring.values(opened.json()['data'])[0]}" if opened else "", ""
        while base and time.monotonic() < until:
            page = await seen.ask(client, "GET", f"{base}/next?shows=all&limit=2&after={after}&desk=d{number}")
            for pair in page.json()["pairs"][:1] if page else []:
                after = pair["id"]
                await seen.ask(client, "GET", f"/{pair['unsafe']['src']}")
                verdict = chance.choice(("accept", "reject", "skip"))
                told = {"id": secrets.token_hex(8), "pair": after, "version": pair["version"], "verdict": verdict,
                        "reviewer": "x"}  # fmt: skip
                if await seen.ask(client, "POST", f"{base}/decide", json=told) is not None:
                    seen.counts["verdicts"] += 1
            await asyncio.sleep(JUDGE_SECONDS)


def call(listener: dict[str, Any], data: list[Any], session: str) -> dict[str, Any]:
    trigger = listener["targets"][0][0]
    return {"data": data, "fn_index": listener["id"], "session_hash": session, "trigger_id": trigger}


async def load(url: str, pid: int, seconds: float, visitors: int, reviewers: int) -> tuple[Seen, float]:
    seen, process, until = Seen(), psutil.Process(pid), time.monotonic() + seconds
    people = [visitor(n, url, until, seen) for n in range(visitors)] + [
        reviewer(n, url, until, seen) for n in range(reviewers)
    ]
    running = asyncio.gather(*people)
    await asyncio.sleep(seconds / 4)
    early = process.memory_info().rss
    await running
    return seen, process.memory_info().rss / early


def train(store: Store, settings: Settings) -> Job:
    """Start a training that nobody waits for, and wait until it makes steps."""
    project = open_sample(store, settings)
    config = {"method": "duo", "config": {**PRESETS["toybox: duo"].values, "steps": 100_000}}
    job = submit(store, settings, "train", project.id, config)
    while (row := store.get_job(job.id)).step < 2:
        if row.is_final:
            raise RuntimeError(f"The training ended: {row.error}")
        time.sleep(0.5)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="Many people at once.")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--visitors", type=int, default=VISITORS)
    parser.add_argument("--reviewers", type=int, default=REVIEWERS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(Path(folder), public_demo=True)
        settings.create_folders()
        users = Users(settings.users)
        for number in range(given.reviewers):
            users.add(f"reviewer{number}", "reviewer", PASSWORD)
        with running_studio(settings) as studio:
            url = studio.url.rstrip("/")
            store = Store(settings.database)
            job = train(store, settings)
            seen, growth = asyncio.run(
                load(url, studio.process.pid, 60 * given.minutes, given.visitors, given.reviewers)
            )
            trained = store.get_job(job.id)
            assert not trained.is_final, trained.error
            stop(store, settings, job.id, wait=True)
            store.close()
    p95 = 1000 * statistics.quantiles(seen.seconds, n=20)[-1] if len(seen.seconds) > 1 else 0.0
    ratios = {"errors": seen.counts["errors"] / seen.counts["actions"], "rss_growth": growth, "page_action_p95_ms": p95}
    drawn = round(statistics.median(seen.drawings), 1) if seen.drawings else None
    print_result("load", ratios, minutes=given.minutes, visitors=given.visitors, reviewers=given.reviewers,
                 counts=dict(seen.counts), drawing_median_seconds=drawn, training_steps=trained.step)  # fmt: skip


if __name__ == "__main__":
    main()
