"""Kills the studio's processes again and again while people work with it: `python -m tests.faults --count 50 --seed 0`.

A round is one line of a schedule that the seed decides: who is killed with SIGKILL (the worker of a job, the web
process, or both), and when. Meanwhile somebody judges pairs over HTTP. After each round: every verdict that was
acknowledged is there, no process is left that nobody knows, no file is half, the database is whole, and the next action
works.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import secrets
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from studio import jobs
from studio.images import put_image
from studio.records import ImagePair, Job, Project, PromptPair
from studio.settings import Settings
from studio.store import Store, integrity_of
from tests.browser.running import RunningStudio, running_studio

VICTIMS = ("worker", "web", "both")
PAIRS = {"steps": 2, "batch_size": 1, "max_tries": 2}
JUDGED = 400  # pairs that somebody judges meanwhile
PATIENCE = 120.0  # seconds, for a loaded machine


@dataclass(frozen=True)
class Round:
    victim: str
    after: float  # seconds since the job's worker has its process

    def __str__(self) -> str:
        return f"{self.victim} after {self.after:.2f} s"


def schedule(seed: int, count: int) -> list[Round]:
    """Each victim in turn, at moments from the start of Python to the middle of the work."""
    chance = random.Random(seed)
    return [
        Round(VICTIMS[n % len(VICTIMS)], chance.choice((0.0, 0.3, 1.0, 3.0, 6.0)) * chance.random())
        for n in range(count)
    ]


@dataclass
class Reviewer(threading.Thread):
    """Judges one pair after the other, and remembers what the server said that it keeps."""

    store: Store
    project: Project
    url: str = ""
    acknowledged: list[str] = field(default_factory=list)
    leaves: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.pairs = [pair for pair in self.store.list_image_pairs(self.project.id) if pair.origin == "brought"]

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        n = 0
        while not self.leaves.is_set():
            n += 1
            if self.url and self.judge(self.pairs[n % len(self.pairs)], ("accept", "reject", "skip")[n % 3]):
                time.sleep(0.02)
            else:
                time.sleep(0.1)

    def judge(self, pair: ImagePair, verdict: str) -> bool:
        told = {"id": secrets.token_hex(8), "pair": pair.id, "version": pair.version, "verdict": verdict,
                "reviewer": "Ann"}  # fmt: skip
        try:
            status = post(f"{self.url}studio/curation/{self.project.id}/decide", told)
        except OSError:
            return False
        if status == 200:
            self.acknowledged.append(told["id"])
        return status == 200


def post(url: str, told: dict[str, Any]) -> int:
    request = urllib.request.Request(url, json.dumps(told).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def fill(settings: Settings) -> tuple[Store, Project]:
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("", "Sword", "sword", "toybox", "toybox", {"concept": "sword"}))
    shown = [put_image(settings, np.full((64, 64, 3), shade, np.uint8)) for shade in (10, 200)]
    (judged,) = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", count=0)])
    for n in range(JUDGED):
        store.add_image_pair(ImagePair("", project.id, judged.id, n, n, "ready", *shown, origin="brought"))
    store.add_prompt_pairs([PromptPair("", project.id, "a pirate", "a painter", count=3, seed=9)])
    return store, project


class Faults:
    """One data folder, and the studio that is killed on it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store, self.project = fill(settings)
        self.reviewer = Reviewer(self.store, self.project)
        self.studio: RunningStudio | None = None
        self._running: Any = None

    def start(self) -> None:
        self._running = running_studio(self.settings)
        self.studio = self._running.__enter__()
        self.reviewer.url = self.studio.url

    def stop(self) -> None:
        self.reviewer.url = ""
        self._running.__exit__(None, None, None)
        self.studio = None

    def play(self, turn: Round) -> None:
        assert self.studio is not None
        job = self.job()
        self.until(lambda: self.store.get_job(job.id).state == "running" and self.worker(job) is not None)
        time.sleep(turn.after)
        if turn.victim in ("worker", "both"):
            self.kill(self.worker(job))
        if turn.victim in ("web", "both"):
            self.kill(self.studio.process.pid)
            self.studio.process.wait()
            self.check_no_inference_worker()
            self.stop()
            self.start()
        self.check(job)

    def job(self) -> Job:
        """The job that is to be killed: the last one again, where it has not ended well."""
        last = next(iter(self.store.list_jobs(self.project.id)[::-1]), None)
        if last is not None and last.state == "failed":
            return jobs.resume(self.store, self.settings, last.id)
        if last is not None and not last.is_final:
            return last
        (prompt,) = self.store.add_prompt_pairs(
            [PromptPair("", self.project.id, f"a pirate {secrets.token_hex(4)}", "a painter", count=2)]
        )
        assert prompt
        return jobs.submit(self.store, self.settings, "pairs", self.project.id, PAIRS)

    def worker(self, job: Job) -> int | None:
        """The process of a job that was started for it, not the runner's own that claimed it."""
        assert self.studio is not None
        pid = self.store.get_job(job.id).pid
        return pid if pid not in (None, self.studio.process.pid) else None

    def kill(self, pid: int | None) -> None:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):  # it was quicker
                os.kill(pid, signal.SIGKILL)

    def check(self, job: Job) -> None:
        """What must hold after each round."""
        ended = lambda: self.store.get_job(job.id).is_final or self.worker_lives(job)  # noqa: E731
        self.until(ended)
        assert integrity_of(self.settings.database) == []
        acknowledged = list(self.reviewer.acknowledged)
        kept = {one.id for one in self.store.list_verdicts(self.project.id)}
        assert set(acknowledged) <= kept, "a verdict that was acknowledged is lost"
        self.check_files()
        self.until(lambda: self.strangers() == [], "processes that nobody knows")
        before = len(self.reviewer.acknowledged)
        self.until(lambda: len(self.reviewer.acknowledged) > before, "the next verdict is not taken")

    def worker_lives(self, job: Job) -> bool:
        row = self.store.get_job(job.id)
        return row.state == "queued" or jobs.is_alive(row.pid, row.pid_started)

    def check_files(self) -> None:
        for path in self.settings.images.glob("??/*.png"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem, f"{path} is half"
        for pair in self.store.list_image_pairs(self.project.id, "ready"):
            if pair.origin != "brought":
                found = list(self.settings.latents.glob(f"{pair.id}*.safetensors"))
                assert found, f"pair {pair.id} has no latents"
                for path in found:
                    size = int.from_bytes(path.read_bytes()[:8], "little")
                    json.loads(path.read_bytes()[8 : 8 + size])

    def check_no_inference_worker(self) -> None:
        self.until(
            lambda: not any("studio.inference.worker" in " ".join(one.cmdline()) for one in self.own()),
            "the inference worker outlived the page",
        )

    def strangers(self) -> list[str]:
        """Processes on this data folder which are neither the page, nor its children, nor a job's."""
        assert self.studio is not None
        known = {self.studio.process.pid, *(row.pid for row in self.store.list_jobs(states=jobs.LIVE))}
        found = []
        for one in self.own():
            try:
                line = {one.pid, *(parent.pid for parent in one.parents())}
                if not line & known and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(one.cmdline()))
            except psutil.Error:
                continue
        return found

    def own(self) -> list[psutil.Process]:
        found = []
        for one in psutil.process_iter():
            try:
                if one.pid != os.getpid() and one.environ().get("DUO_STUDIO_DATA") == str(self.settings.data):
                    found.append(one)
            except psutil.Error:
                continue
        return found

    def finish(self) -> None:
        """The job that was killed so often goes on to its end."""
        job = self.job()
        self.until(lambda: self.store.get_job(job.id).is_final, "the job does not end")
        row = self.store.get_job(job.id)
        assert row.state == "done", row.error

    def until(self, true: Any, what: str = "waited in vain") -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, what
            time.sleep(0.05)


def run(settings: Settings, seed: int, count: int) -> int:
    """Play the schedule; the number of verdicts that were acknowledged, all of which are there."""
    faults = Faults(settings)
    faults.start()
    faults.reviewer.start()
    try:
        for number, turn in enumerate(schedule(seed, count), 1):
            print(f"{number} of {count}: {turn}; {len(faults.reviewer.acknowledged)} verdicts so far", flush=True)
            faults.play(turn)
        faults.finish()
        return len(faults.reviewer.acknowledged)
    finally:
        faults.reviewer.leaves.set()
        faults.stop()
        faults.store.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--count", type=int, default=12, help="rounds")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    from tests.conftest import make_tiny_bundle
    from tests.tiny_toybox import save_tiny_toybox

    with tempfile.TemporaryDirectory(prefix="duo-faults-") as folder:
        save_tiny_toybox(make_tiny_bundle(), Path(folder) / "toybox")
        settings = Settings(Path(folder) / "data", device="cpu", threads=1, toybox=Path(folder) / "toybox")
        kept = run(settings, given.seed, given.count)
    print(f"{given.count} rounds with seed {given.seed}: {kept} verdicts acknowledged, none lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
