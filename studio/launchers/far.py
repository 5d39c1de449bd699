"""A training on the machine that it was sent to: unpacked into a studio of its own, done there as any job, sent back.

What it tells goes into its log (`studio.launchers.events`), which whoever asked for it reads.
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from studio.jobs import Runner, log_path
from studio.launchers.accelerate import follower_arguments, machines_of
from studio.launchers.base import LaunchError
from studio.launchers.depot import Depot
from studio.launchers.events import event, progress_of
from studio.launchers.parcel import CHECKPOINT, STAGES, TOYBOX, Unpacked, has_stages, unpack
from studio.launchers.results import ADAPTER, pack_results, take_stages
from studio.processes import start_python
from studio.records import Job
from studio.settings import Settings
from studio.store import Store

INPUTS, STATE, RESULTS = "inputs.zip", "state", "results"
Say = Callable[[str], None]


class Place(Protocol):
    """Where a training's inputs come from and its results go."""

    def bring(self, folder: Path) -> None:
        """Put inputs.zip, the checkpoint's files, and state/ into the folder."""

    def keep_state(self, folder: Path) -> None:
        """Keep the files of a training that is not done, so that it can be resumed elsewhere."""

    def keep_results(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class InFolder:
    """Both in folders of this machine, as a cluster or a person brought them."""

    inputs: Path
    out: Path

    def bring(self, folder: Path) -> None:
        for name in (INPUTS, CHECKPOINT, TOYBOX):
            source = self.inputs / name
            if source.is_dir():
                shutil.copytree(source, folder / name, dirs_exist_ok=True)
            elif source.is_file():
                shutil.copyfile(source, folder / name)
        if (self.out / STATE).is_dir():
            shutil.copytree(self.out / STATE, folder / STATE, dirs_exist_ok=True)

    def keep_state(self, folder: Path) -> None:
        shutil.copytree(folder, self.out / STATE, dirs_exist_ok=True)

    def keep_results(self, folder: Path) -> None:
        shutil.copytree(folder, self.out / RESULTS, dirs_exist_ok=True)


@dataclass(frozen=True)
class OnTheHub:
    """Both in the training's repository; the inputs of one commit, the state of the newest."""

    depot: Depot
    revision: str

    def bring(self, folder: Path) -> None:
        self.depot.fetch(INPUTS, folder, self.revision)
        for part in (CHECKPOINT, TOYBOX):
            for name in self.depot.names(f"{part}/", self.revision):
                self.depot.fetch(name, folder, self.revision)
        for name in self.depot.names(f"{STATE}/"):
            self.depot.fetch(name, folder)

    def keep_state(self, folder: Path) -> None:
        self._send(folder, STATE, "State of the training")

    def keep_results(self, folder: Path) -> None:
        self._send(folder, RESULTS, "Results of the training")

    def _send(self, folder: Path, name: str, message: str) -> None:
        files: dict[str, Path | bytes] = {
            f"{name}/{file.relative_to(folder).as_posix()}": file
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        if files:
            self.depot.send(files, message)


def work(settings: Settings, place: Place, folder: Path, say: Say, *, interval: float = 1.0) -> Job:
    """Do the training that `place` brings, in the studio of `settings`, which is empty. Returns its ended row."""
    settings, store, unpacked = _unpacked(settings, place, folder, say)
    job = unpacked.job
    teller = _Teller(store, settings, job.id, say)
    keeper = _Keeper(store, settings, job, place, folder / "copy", unpacked.save_minutes * 60, say)
    keeper.start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the runner then asks the job to stop, and waits for it
    try:
        job = Runner(store, settings, interval=interval).run_until_done(job.id, teller)
    finally:
        keeper.close()
    teller.log()
    if job.state == "done":
        packed = folder / RESULTS
        sha256 = pack_results(store, settings, job, packed)
        say("Sending the results.")
        place.keep_results(packed)
        say(event(state="done", results=sha256))
    else:
        keeper.keep()
        say(event(state=job.state, error=job.error))
    store.close()
    return job


def follow(settings: Settings, place: Place, folder: Path, rank: int, say: Say) -> int:
    """The part of machine `rank` in a training of several machines, whose first one is 0; returns the exit code."""
    if settings.accelerate_config is None or not 0 < rank < machines_of(settings.accelerate_config):
        raise LaunchError(
            f"The machine's rank is {rank}, but {settings.accelerate_config or 'no --accelerate-config'} does not have "
            "so many machines. Count from 0, and give the same configuration to each."
        )
    settings, store, unpacked = _unpacked(settings, place, folder, say)
    store.close()
    say(f"Machine {rank} follows machine 0.")
    arguments = follower_arguments(settings.accelerate_config or Path(), rank, "studio.workflow", unpacked.job.id)
    return start_python(settings, arguments, stdout=sys.stdout.fileno(), stderr=sys.stderr.fileno()).wait()


def _unpacked(settings: Settings, place: Place, folder: Path, say: Say) -> tuple[Settings, Store, Unpacked]:
    folder.mkdir(parents=True, exist_ok=True)
    place.bring(folder)
    settings = _with_toybox(settings, folder)
    settings.create_folders()
    store = Store(settings.database)
    unpacked = unpack(folder / INPUTS, store, settings, folder)
    if (folder / STATE).is_dir():
        stages = folder / STATE / STAGES
        shutil.copytree(folder / STATE, settings.checkpoints, dirs_exist_ok=True, ignore=shutil.ignore_patterns(STAGES))
        if stages.is_dir():
            unpacked = replace(unpacked, job=take_stages(store, settings, unpacked.job, stages))
        say("Going on from the saved state.")
    return settings, store, unpacked


def _with_toybox(settings: Settings, folder: Path) -> Settings:
    return replace(settings, toybox=folder / TOYBOX) if (folder / TOYBOX).is_dir() else settings


@dataclass
class _Teller:
    """Says each change of the row, its new values, and the new lines of the worker's log."""

    store: Store
    settings: Settings
    job_id: str
    say: Say
    _step: int = -1
    _read: int = 0
    _said: str = ""
    _config: dict[str, object] = field(default_factory=dict)

    def __call__(self, job: Job) -> None:
        self.log()
        if job.config != self._config:
            self._config = job.config
            self.say(event(config=job.config))
        metrics = self.store.job_metrics(self.job_id, after=self._step)
        if metrics:
            self._step = int(metrics[-1]["step"])
        line = progress_of(job, metrics)
        if line != self._said:
            self.say(line)
            self._said = line

    def log(self) -> None:
        path = log_path(self.settings, self.job_id)
        if not path.is_file():
            return
        with path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            if line.strip():
                self.say(line.rsplit("\r", 1)[-1])


class _Keeper:
    """Keeps the state of a training in a thread, every `seconds` and when it is asked to; a failure is said, no end."""

    def __init__(
        self, store: Store, settings: Settings, job: Job, place: Place, copy: Path, seconds: float, say: Say
    ) -> None:
        self.store, self.settings, self.job = store, settings, job
        self.place, self.copy, self.seconds, self.say = place, copy, seconds, say
        self._closing = threading.Event()
        self._kept: dict[str, int] = {}
        self._thread = threading.Thread(target=self._watch, name="state-keeper", daemon=True)

    def start(self) -> None:
        if self.seconds > 0:
            self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def keep(self) -> None:
        files = {}
        for folder in self.settings.checkpoints.glob(f"{self.job.id}*"):
            for file in folder.iterdir():
                if file.is_file() and not file.name.startswith("."):
                    files[f"{folder.name}/{file.name}"] = file
        now = {name: file.stat().st_mtime_ns for name, file in files.items()}
        if now == self._kept:
            return
        shutil.rmtree(self.copy, ignore_errors=True)
        for name, file in files.items():
            if file.name != ADAPTER:  # of a finished stage, see below
                (self.copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, self.copy / name)
        if has_stages(self.store, self.job):
            pack_results(self.store, self.settings, self.store.get_job(self.job.id), self.copy / STAGES)
        try:
            self.place.keep_state(self.copy)
            self._kept = now
            self.say("The training's state is kept.")
        except LaunchError as error:
            self.say(f"The training's state was not kept: {error}")

    def _watch(self) -> None:
        while not self._closing.wait(self.seconds):
            try:
                self.keep()
            except OSError as error:  # a file that was renamed meanwhile: next time
                self.say(f"The training's state was not kept: {error}")
        self.store.close()
