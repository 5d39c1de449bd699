"""Kills the studio's processes again and again while people work with it: `python -m tests.faults --count 50 --seed 0`.

A round is one line of a schedule that the seed decides: what runs (pairs, a training, an attack, an evaluation), who is
killed with SIGKILL (its worker, the web process, or both), when, and whether in the middle of a transaction. Meanwhile
somebody judges pairs over HTTP. After each round: every verdict that was acknowledged is there, no process is left that
nobody knows, no file is half, the database is whole, and the next action works.

In the middle of a transaction: Linux's /proc/locks says who holds SQLite's write lock. That process is stopped; if it
still holds the lock, it is killed, else it goes on and is watched for its next transaction.
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from models.deltas import file_sha256
from studio import jobs
from studio.images import put_image
from studio.prompts import pair_prompts
from studio.records import ImagePair, Job, Project, PromptPair
from studio.settings import Settings
from studio.store import Store, integrity_of
from tests.browser.running import RunningStudio, running_studio

VICTIMS = ("worker", "web", "both")
UNFILTERED = {"filter_by_detector": False, "auto_accept": True}
JOBS: dict[str, dict[str, Any]] = {
    "pairs": {"steps": 2, "batch_size": 1, "max_tries": 2},
    "train": {"method": "duo", "config": {"steps": 40, "batch_size": 2, "rank": 2, "alpha": 2.0, "sample_every": 10,
                                          "save_every": 2}},
    "attack": {"attack": "unlearn_diff_atk", "n": 3, "fresh": 2, "steps": 2, "batch_size": 4,
               "values": {"steps": 2, "t_step": 250, "tokens": 2, "batch_size": 1}},
    "evaluate": {"n": 6, "steps": 2, "batch_size": 2},
}  # fmt: skip
JUDGED = 400  # pairs that somebody judges meanwhile
PATIENCE = 120.0  # seconds, for a loaded machine
TRANSACTION = 15.0  # seconds that a process is watched for its next one
WRITE_LOCK = "120"  # the byte of SQLite's -shm file that a writer locks (WAL_WRITE_LOCK)


@dataclass(frozen=True)
class Round:
    kind: str
    victim: str
    after: float  # seconds since the job's worker has its process
    inside: bool  # in the middle of a transaction, the next one from then on

    def __str__(self) -> str:
        return f"{self.kind}: {self.victim} after {self.after:.2f} s{', inside a transaction' * self.inside}"


def schedule(seed: int, count: int) -> list[Round]:
    """Each kind of job and each victim in turn, at moments from the start of Python to the middle of the work."""
    chance = random.Random(seed)
    kinds = list(JOBS)
    return [
        Round(
            kinds[n % len(kinds)],
            VICTIMS[n % len(VICTIMS)],
            chance.choice((0.0, 0.3, 1.0, 3.0, 6.0)) * chance.random(),
            chance.random() < 0.4,
        )
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
        self.pairs = self.store.list_image_pairs(self.project.id)

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


def fill(settings: Settings) -> tuple[Store, Project, Project]:
    """A project whose jobs are killed, and one with pairs that somebody judges."""
    settings.create_folders()
    store = Store(settings.database)
    project, judging = (
        store.create_project(Project("", name, "sword", "toybox", "toybox", {"concept": "sword"}))
        for name in ("Sword", "Judged")
    )
    shown = [put_image(settings, np.full((64, 64, 3), shade, np.uint8)) for shade in (10, 200)]
    (judged,) = store.add_prompt_pairs([PromptPair("", judging.id, "a knight", "a gardener", count=0)])
    for n in range(JUDGED):
        store.add_image_pair(ImagePair("", judging.id, judged.id, n, n, "ready", *shown, origin="brought"))
    texts = pair_prompts(4, 0)
    store.add_prompt_pairs(PromptPair("", project.id, text.unsafe, text.safe, seed=n) for n, text in enumerate(texts))
    return store, project, judging


def writes(pid: int, database: Path) -> bool:
    """Whether this process is in the middle of a transaction that writes. False where /proc/locks is not there."""
    with contextlib.suppress(OSError):
        inode = f":{database.with_name(f'{database.name}-shm').stat().st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[3:5] == ["WRITE", str(pid)] and words[5].endswith(inode) and words[6] == WRITE_LOCK:
                return True
    return False


class Faults:
    """One data folder, and the studio that is killed on it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store, self.project, judging = fill(settings)
        self.reviewer = Reviewer(self.store, judging)
        self.studio: RunningStudio | None = None
        self.inside = 0  # processes that were killed in the middle of a transaction
        self._running: Any = None

    def start(self) -> None:
        self._running = running_studio(self.settings)
        self.studio = self._running.__enter__()
        self.reviewer.url = self.studio.url

    def stop(self) -> None:
        self.reviewer.url = ""
        self._running.__exit__(None, None, None)
        self.studio = None

    def prepare(self) -> None:
        """What trainings, attacks and evaluations need: pairs, and a trained model. Nobody is killed here."""
        for kind, extra in (("pairs", UNFILTERED), ("train", {})):
            self.finish(jobs.submit(self.store, self.settings, kind, self.project.id, {**JOBS[kind], **extra}))

    def play(self, turn: Round) -> None:
        assert self.studio is not None
        job = self.job(turn.kind)
        self.until(lambda: self.store.get_job(job.id).state == "running" and self.worker(job) is not None)
        time.sleep(turn.after)
        if turn.victim in ("worker", "both"):
            self.kill(self.worker(job), turn.inside)
        if turn.victim in ("web", "both"):
            self.kill(self.studio.process.pid, turn.inside)
            self.studio.process.wait()
            self.check_no_inference_worker()
            self.stop()
            self.start()
        self.check(job)

    def job(self, kind: str) -> Job:
        """The job that is to be killed: the last one of its kind again, where it has not ended well."""
        last = next((job for job in self.store.list_jobs(self.project.id)[::-1] if job.kind == kind), None)
        if last is not None and last.state == "failed":
            return jobs.resume(self.store, self.settings, last.id)
        if last is not None and not last.is_final:
            return last
        if kind == "pairs":
            self.store.add_prompt_pairs(
                [PromptPair("", self.project.id, f"a pirate {secrets.token_hex(4)}", "a painter", count=2)]
            )
        return jobs.submit(self.store, self.settings, kind, self.project.id, JOBS[kind])

    def worker(self, job: Job) -> int | None:
        """The process of a job that was started for it, not the runner's own that claimed it."""
        assert self.studio is not None
        pid = self.store.get_job(job.id).pid
        return pid if pid not in (None, self.studio.process.pid) else None

    def kill(self, pid: int | None, inside: bool) -> None:
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):  # it was quicker
            end = time.monotonic() + TRANSACTION * inside
            while time.monotonic() < end:
                if writes(pid, self.settings.database):
                    os.kill(pid, signal.SIGSTOP)
                    if writes(pid, self.settings.database):
                        self.inside += 1
                        break
                    os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGKILL)

    def check(self, job: Job) -> None:
        """What must hold after each round."""
        ended = lambda: self.store.get_job(job.id).is_final or self.worker_lives(job)  # noqa: E731
        self.until(ended)
        assert integrity_of(self.settings.database) == []
        acknowledged = list(self.reviewer.acknowledged)
        kept = {one.id for one in self.store.list_verdicts(self.reviewer.project.id)}
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
            found = list(self.settings.latents.glob(f"{pair.id}*.safetensors"))
            assert found, f"pair {pair.id} has no latents"
            for path in found:
                size = int.from_bytes(path.read_bytes()[:8], "little")
                json.loads(path.read_bytes()[8 : 8 + size])
        for one in self.store.list_checkpoints(self.project.id):
            assert file_sha256(self.settings.data / one.path) == one.sha256, f"{one.path} is half"
        for one in self.store.list_evaluations(self.project.id):
            json.loads((self.settings.data / one.folder / "report.json").read_bytes())

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

    def finish(self, job: Job) -> None:
        """A job goes on to its end."""
        self.until(lambda: self.store.get_job(job.id).is_final, "the job does not end")
        row = self.store.get_job(job.id)
        assert row.state == "done", row.error

    def until(self, true: Any, what: str = "waited in vain") -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, what
            time.sleep(0.05)


def run(settings: Settings, turns: Sequence[Round]) -> int:
    """Play a schedule; the number of verdicts that were acknowledged, all of which are there."""
    kinds = dict.fromkeys(turn.kind for turn in turns)
    faults = Faults(settings)
    faults.start()
    try:
        if kinds.keys() - {"pairs"}:
            faults.prepare()
        faults.reviewer.start()
        for number, turn in enumerate(turns, 1):
            print(f"{number} of {len(turns)}: {turn}; {len(faults.reviewer.acknowledged)} verdicts so far", flush=True)
            faults.play(turn)
        for kind in kinds:  # what was killed so often
            faults.finish(faults.job(kind))
        print(f"{faults.inside} processes were killed in the middle of a transaction")
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
        kept = run(settings, schedule(given.seed, given.count))
    print(f"{given.count} rounds with seed {given.seed}: {kept} verdicts acknowledged, none lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
