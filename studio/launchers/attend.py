"""The process that has the row of a training at Hugging Face: `python -m studio.launchers.attend JOB_ID`. No torch.

It sends the inputs, starts the remote job, puts what that tells into the row, cancels it when the row is to stop, and
takes the results. The remote job goes on without it: another attendant finds its id in the row, or by its label.
"""

from __future__ import annotations

import io
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any

from studio.exchange.hub import hub_words
from studio.jobs import JobError, take_row
from studio.launch_options import HfJobsOptions, options_from
from studio.launchers.base import LaunchError
from studio.launchers.depot import Depot
from studio.launchers.events import read_event, take_progress
from studio.launchers.far import INPUTS, RESULTS
from studio.launchers.hf_jobs import COMMAND, token_here
from studio.launchers.parcel import beside, pack
from studio.launchers.results import ResultsError, take_results
from studio.progress import Stopped
from studio.records import Job
from studio.settings import Settings
from studio.spaces import space_files
from studio.store import Store

LABEL = "duo-studio-job"
INTERVAL = 3.0  # seconds between two looks at the remote job
GLANCE = 0.2  # seconds within which it is woken
LAST_LINES = 10.0  # seconds that the rest of the log may take once the remote job has ended
CANCELLING = 75.0  # seconds until Hugging Face must have ended what was cancelled
REFUSALS = 3  # in a row, of a question that was answered before
UNREACHED = 1800.0  # seconds after the remote job's time-out in which the hub may still come back
SOURCE = "source.zip"
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
OPTIONS = tuple(asdict(HfJobsOptions()))


def attend(
    store: Store, settings: Settings, job_id: str, *, interval: float = INTERVAL, woken: Event | None = None
) -> Job:
    """Attend to the job until it has ended, and put its end into the row; `woken` makes it look at the row at once."""
    job = take_row(store, job_id)
    try:
        result = Attendant(store, settings, job, interval, woken or Event()).run()
    except Stopped:
        return store.update_job(job_id, state="stopped")
    except LaunchError as error:
        print(error, flush=True)
        return store.update_job(job_id, state="failed", error=str(error))
    except Exception as error:  # whatever broke, the row must say so
        traceback.print_exc(file=sys.stderr)
        words = f"{type(error).__name__}: {error}. Resume the job to attend to it again."
        return store.update_job(job_id, state="failed", error=words)
    return store.update_job(job_id, state="done", result=result)


class Attendant:
    """One training at Hugging Face."""

    def __init__(self, store: Store, settings: Settings, job: Job, interval: float, woken: Event) -> None:
        from huggingface_hub import HfApi

        token = token_here()
        self.store, self.settings, self.job = store, settings, job
        self.interval, self.woken = interval, woken
        self.token, self.api = token, HfApi(token=token)
        self.options = options_from({name: job.place.get(name) for name in OPTIONS}, settings.hf_jobs)
        self.folder = settings.outgoing / job.id
        self.told: dict[str, Any] = {}  # the last word of the machine: its state, and error or hash of the results
        self._refused = 0

    def run(self) -> dict[str, Any]:
        """The job's result. Raises Stopped, or LaunchError."""
        remote = self._known() or self._start()
        reader = _Reader(self, remote.id)
        reader.start()
        remote = self._follow(remote, reader)
        self.keep(ended=True)
        return self._end(remote)

    @property
    def place(self) -> dict[str, Any]:
        return self.store.get_job(self.job.id).place

    @cached_property
    def namespace(self) -> str:
        """Who pays."""
        if kept := self.place.get("namespace"):
            return str(kept)
        try:
            return str(self.api.whoami()["name"])
        except Exception as error:
            raise self._failed("The hub does not tell whose token this is", error) from None

    @property
    def depot(self) -> Depot:
        return Depot(self.place["repository"], self.token)

    # -- starting ------------------------------------------------------------------------------------------------

    def _known(self) -> Any | None:
        """The remote job that runs, or that ended while nobody looked; None where one is to be started."""
        place = self.place
        if place.get("ended") or not place.get("repository"):
            return None
        try:
            if place.get("remote_id"):
                return self.api.inspect_job(job_id=place["remote_id"], namespace=self.namespace)
            found = self.api.list_jobs(labels={LABEL: self.job.id}, namespace=self.namespace)
            mine = [one for one in found if one.id not in place.get("past", [])]
        except Exception as error:
            raise self._failed("Hugging Face does not tell how the training stands", error) from None
        if mine:
            self.keep(remote_id=mine[0].id, url=mine[0].url)
        return mine[0] if mine else None

    def _start(self) -> Any:
        self._stop_if_asked()
        namespace = self.namespace
        self._say("Packing the training")
        past = [*self.place.get("past", []), *filter(None, [self.place.get("remote_id")])]
        self.keep(
            namespace=namespace,
            repository=f"{namespace}/duo-studio-{self.job.id}",
            remote_id="",
            ended=False,
            past=past,
        )
        shutil.rmtree(self.folder, ignore_errors=True)
        pack(self.store, self.settings, self.job, self.folder / INPUTS)
        checkpoint = self.store.get_project(self.job.project_id).checkpoint
        files: dict[str, Path | bytes] = {
            INPUTS: self.folder / INPUTS, SOURCE: source_zip(self.settings), **beside(self.settings, checkpoint)
        }  # fmt: skip
        self._say(f"Sending the training to {self.place['repository']}")
        self.depot.make()
        revision = self.depot.send(files, "A training to be done")
        shutil.rmtree(self.folder, ignore_errors=True)
        self._stop_if_asked()
        return self._ask(revision)

    def _ask(self, revision: str) -> Any:
        from huggingface_hub import __version__

        options = self.options
        environment = {"DUO_STUDIO_REPOSITORY": self.place["repository"], "DUO_STUDIO_REVISION": revision,
                       "DUO_STUDIO_DATA": "../data", "DUO_STUDIO_DTYPE": self.settings.dtype,
                       "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}  # fmt: skip
        try:
            remote = self.api.run_job(
                image=options.image,
                command=["bash", "-c", COMMAND.format(hub=__version__)],
                env=environment,
                secrets={"HF_TOKEN": self.token},
                flavor=options.flavor,
                timeout=round(options.timeout_minutes * 60),
                name=f"duo-studio-{self.job.id}",
                labels={LABEL: self.job.id},
                namespace=self.namespace,
            )
        except Exception as error:
            raise self._failed(
                f"Hugging Face Jobs did not take the training ({options.flavor}, paid by {self.namespace})", error,
                "Check that the token may start jobs, that there is credit, and the machine's name",
            ) from None  # fmt: skip
        self.keep(remote_id=remote.id, url=remote.url, asked=time.time())
        print(f"Remote job {remote.id}: {remote.url}", flush=True)
        return remote

    # -- following -----------------------------------------------------------------------------------------------

    def _follow(self, remote: Any, reader: _Reader) -> Any:
        """Until the remote job has ended; its last state."""
        while True:
            self._take(reader, self.interval)
            self.woken.clear()
            if self.store.stop_requested(self.job.id):
                return self._cancel(remote, reader)
            remote = self._look(remote)
            stage = _stage(remote)
            if stage in ENDED:
                self._take(reader, LAST_LINES, to_the_end=True)
                return remote
            if stage != "RUNNING":
                self._say(f"Waits for a machine ({self.options.flavor}) at Hugging Face")
            elif not reader.begun:
                self._say(f"The machine ({self.options.flavor}) installs the studio")

    def _look(self, remote: Any) -> Any:
        """The remote job as it stands; as it stood, while the hub cannot be reached. Raises LaunchError."""
        try:
            found = self.api.inspect_job(job_id=remote.id, namespace=self.namespace)
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            self._refused += status in (401, 403, 404)
            if self._refused >= REFUSALS:
                raise self._failed("Hugging Face does not tell how the training stands", error) from None
            self._say(f"The hub cannot be reached; the training goes on there. {hub_words(error, self.token)}")
            if time.time() > self.place.get("asked", time.time()) + self.options.timeout_minutes * 60 + UNREACHED:
                raise self._failed("The hub cannot be reached, and the training's time is over", error) from None
            return remote
        self._refused = 0
        if self.place.get("attendants"):
            self.keep(attendants=0)
        self.store.update_job(self.job.id, heartbeat=time.time())
        return found

    def _take(self, reader: _Reader, seconds: float, *, to_the_end: bool = False) -> None:
        """Put what the log tells within `seconds` into the row."""
        for told, is_new in reader.events(seconds, to_the_end=to_the_end):
            if isinstance(told.get("config"), dict):
                self.store.update_job(self.job.id, config=told["config"])
            elif "state" in told:
                self.told = told
            elif is_new:
                take_progress(self.store, self.job.id, told, time.time())

    def _cancel(self, remote: Any, reader: _Reader) -> Any:
        """Raises Stopped, or LaunchError where Hugging Face does not end it; returns one that is done meanwhile."""
        self._say("Cancelling at Hugging Face")
        deadline, problem = time.monotonic() + CANCELLING, "it still runs."
        while time.monotonic() < deadline:
            try:
                remote = self.api.inspect_job(job_id=remote.id, namespace=self.namespace)
                if _stage(remote) in ENDED:
                    self._take(reader, LAST_LINES, to_the_end=True)  # of steps whose state it may have kept
                    if _stage(remote) == "COMPLETED":
                        return remote  # it was done before it could be stopped
                    self.keep(ended=True)
                    raise Stopped(f"Job {self.job.id} was cancelled.")
                self.api.cancel_job(job_id=remote.id, namespace=self.namespace)
            except Stopped:
                raise
            except Exception as error:
                problem = hub_words(error, self.token)
            time.sleep(min(1.0, self.interval))
        raise LaunchError(
            f"The training at Hugging Face was to be cancelled, but was not within {CANCELLING:.0f} s: {problem} It "
            f"goes on costing until its time-out: cancel it at {remote.url}."
        )

    # -- the end -------------------------------------------------------------------------------------------------

    def _end(self, remote: Any) -> dict[str, Any]:
        stage, message = _stage(remote), (remote.status.message or "").strip()
        if stage == "COMPLETED":
            return self._results()
        resume = "Resume the job to go on from the state that it kept last."
        if _timed_out(remote, self.options.timeout_minutes):
            raise LaunchError(
                f"Hugging Face ended the training after its time-out of {self.options.timeout_minutes:g} minutes. "
                f"{resume} It then has as long again."
            )
        if stage in ("CANCELED", "DELETED"):
            raise LaunchError(f"The training was {stage.lower()} at Hugging Face, not from here. {resume}")
        if error := self.told.get("error"):
            raise LaunchError(f"At Hugging Face: {error}")
        raise LaunchError(
            f"The machine at Hugging Face ended with an error{f' ({message})' if message else ''}. The job's log has "
            f"its last lines, {remote.url} all of them. Once that is mended, resume the job."
        )

    def _results(self) -> dict[str, Any]:
        self._say("Taking the results")
        folder = self.folder / RESULTS
        told = str(self.told.get("results", ""))
        try:
            result = take_results(
                self.store, self.settings, self.job, lambda name: self.depot.fetch(f"{RESULTS}/{name}", folder), told
            )
        except ResultsError:
            raise
        except LaunchError:
            self.keep(ended=False)  # the results are still there: a resumed job takes them again
            raise
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self.depot.delete()
            self.keep(repository="")
        except LaunchError as error:
            print(f"{error} Its files are not needed any more: `clean` deletes it.", flush=True)
        return result

    def _stop_if_asked(self) -> None:
        if self.store.stop_requested(self.job.id):
            raise Stopped(f"Job {self.job.id} was asked to stop.")

    def keep(self, **facts: Any) -> None:
        self.store.update_job(self.job.id, place={**self.place, **facts})

    def _say(self, message: str) -> None:
        if self.store.get_job(self.job.id).message != message:
            print(message, flush=True)
        self.store.update_job(self.job.id, message=message, heartbeat=time.time())

    def _failed(self, what: str, error: Exception, remedy: str = "Check the token and the connection") -> LaunchError:
        return LaunchError(f"{what}: {hub_words(error, self.token)} {remedy}; then resume the job.")


class _Reader:
    """The remote job's log, line by line, in a thread: asking for it blocks."""

    def __init__(self, attendant: Attendant, remote_id: str) -> None:
        self.attendant, self.remote_id = attendant, remote_id
        self.begun = False  # the studio there has said something
        self._count, self._over = 0, False
        self._shown: int = attendant.place.get("shown", {}).get(
            remote_id, 0
        )  # lines that an attendant has taken already
        self._lines: queue.Queue[str | None] = queue.Queue()

    def start(self) -> None:
        threading.Thread(target=self._read, name="log-reader", daemon=True).start()

    def events(self, seconds: float, *, to_the_end: bool) -> Iterator[tuple[dict[str, Any], bool]]:
        """What the machine tells within `seconds`, and whether it is new; lines for people go into this job's log."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not (self._over and to_the_end):
            if self.attendant.woken.is_set():
                break
            try:
                line = self._lines.get(timeout=min(left, GLANCE))
            except queue.Empty:
                continue
            if line is None:
                self._over = True
                continue
            self._count += 1
            told, is_new = read_event(line), self._count > self._shown
            if told is not None:
                self.begun = True
                yield told, is_new
            elif is_new:
                print(line, flush=True)
        if self._count > self._shown:
            self._shown = self._count
            self.attendant.keep(shown={**self.attendant.place.get("shown", {}), self.remote_id: self._shown})

    def _read(self) -> None:
        """Each line once, however often the log must be asked for anew; None at its end."""
        seen = 0
        while True:
            try:
                lines = self.attendant.api.fetch_job_logs(
                    job_id=self.remote_id, namespace=self.attendant.namespace, follow=True
                )
                for count, line in enumerate(lines, 1):
                    if count > seen:
                        self._lines.put(line)
                        seen = count
                break
            except Exception as error:
                print(f"The log cannot be read: {hub_words(error, self.attendant.token)} Trying again.", flush=True)
                time.sleep(5.0)
        self._lines.put(None)


def source_zip(settings: Settings) -> bytes:
    """This studio's own code and embedded checkpoint, as one zip; equal files give an equal zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(space_files(settings).items()):
            if not name.startswith("docs/"):
                entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()


def _stage(remote: Any) -> str:
    stage = remote.status.stage
    return str(getattr(stage, "value", stage))


def _timed_out(remote: Any, minutes: float) -> bool:
    """Hugging Face tells it in words, or by how long the job ran."""
    words = (remote.status.message or "").lower()
    ran = getattr(remote.durations, "running_secs", None)
    return _stage(remote) == "ERROR" and ("timeout" in words or "timed out" in words or (ran or 0) >= minutes * 60)


def main(job_id: str) -> int:
    from huggingface_hub.utils import disable_progress_bars

    woken = Event()
    signal.signal(signal.SIGINT, lambda *_: woken.set())  # the row says whether to stop; ended, the training goes on
    disable_progress_bars()
    settings = Settings.from_environment()
    store = Store(settings.database)
    try:
        job = attend(store, settings, job_id, woken=woken)
    except JobError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Job {job.id} ({job.kind}) is {job.state}. {job.error}".rstrip())
    return int(job.state == "failed")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
