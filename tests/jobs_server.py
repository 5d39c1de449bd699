"""A local stand-in for Hugging Face Jobs, beside the hub's: machines that really run the command they are given.

A machine is a folder and a child process with a container's environment: nothing of this process's but the path to
Python. It has no network but the stand-in, and its image is not looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.hub_server import TOKEN, Hub, hub_server

MACHINES = [
    {"name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB", "accelerator": None,
     "unitCostMicroUSD": 167, "unitCostUSD": 0.000167, "unitLabel": "minute"},
    {"name": "t4-small", "prettyName": "Nvidia T4 - small", "cpu": "4 vCPU", "ram": "15 GB", "unitLabel": "minute",
     "accelerator": {"type": "gpu", "model": "T4", "quantity": "1", "vram": "16 GB", "manufacturer": "Nvidia"},
     "unitCostMicroUSD": 6667, "unitCostUSD": 0.4 / 60},
]  # fmt: skip


@dataclass
class RemoteJob:
    """One job as Hugging Face would have it."""

    id: str
    asked: dict[str, Any]
    stage: str = "SCHEDULING"
    message: str | None = None
    lines: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    started: float | None = None
    ended: float | None = None
    change: threading.Condition = field(default_factory=threading.Condition)

    @property
    def has_ended(self) -> bool:
        return self.stage in ("COMPLETED", "CANCELED", "ERROR", "DELETED")

    def say(self, *lines: str) -> None:
        with self.change:
            self.lines += lines
            self.change.notify_all()

    def end(self, stage: str, message: str | None = None) -> None:
        """The first word counts: a job that was cancelled did not fail as well."""
        with self.change:
            if not self.has_ended:
                self.stage, self.message, self.ended = stage, message, time.time()
            self.change.notify_all()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def told(self) -> dict[str, Any]:
        ran = (self.ended or time.time()) - self.started if self.started else None
        return {
            "id": self.id, "createdAt": "2026-01-01T00:00:00.000Z", "owner": {"id": "1", "name": "me", "type": "user"},
            "status": {"stage": self.stage, "message": self.message}, "flavor": self.asked.get("flavor"),
            "dockerImage": self.asked.get("dockerImage"), "labels": self.asked.get("labels"),
            "command": self.asked["command"], "environment": self.asked.get("environment"),
            "durations": {"schedulingSecs": 1, "runningSecs": int(ran) if ran is not None else None, "totalSecs": None},
        }  # fmt: skip


@dataclass
class Jobs:
    """All jobs, newest last. A `script` plays the machine in a thread, in the place of the command."""

    hub: Hub
    folder: Path
    script: Callable[[Jobs, RemoteJob], None] | None = None
    refuses: tuple[int, str] | None = None  # status and words for whoever starts a job
    jobs: dict[str, RemoteJob] = field(default_factory=dict)

    @property
    def last(self) -> RemoteJob:
        return list(self.jobs.values())[-1]

    def start(self, asked: dict[str, Any]) -> RemoteJob:
        job = RemoteJob(f"{len(self.jobs):024x}", asked)
        self.jobs[job.id] = job
        threading.Thread(target=self._play if self.script else self._run, args=(job,), daemon=True).start()
        return job

    def _play(self, job: RemoteJob) -> None:
        assert self.script is not None
        job.started = time.time()
        job.stage = "RUNNING"
        self.script(self, job)

    def _installed_once(self, machine: Path) -> Path:
        """A folder of programs in which pip, once it has found all that is asked for, is believed from then on."""
        programs = machine / "bin"
        programs.mkdir()
        python, mark = sys.executable, self.folder / "installed"
        script = f"""\
        #!/bin/sh
        case "$*" in
            "-m pip "*" -r requirements.txt") test -e {mark} || {python} "$@" && touch {mark} ;;
            "-m pip "*) test -e {mark} || exec {python} "$@" ;;
            *) exec {python} "$@" ;;
        esac"""
        (programs / "python").write_text(textwrap.dedent(script), encoding="utf-8")
        (programs / "python").chmod(0o755)
        return programs

    def _run(self, job: RemoteJob) -> None:
        machine = self.folder / job.id
        machine.mkdir(parents=True)
        programs = f"{self._installed_once(machine)}:{Path(sys.executable).parent}"
        container = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(machine), "HF_ENDPOINT": self.hub.url,
                     "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1", "DUO_STUDIO_THREADS": "1"}  # fmt: skip
        job.process = subprocess.Popen(
            job.asked["command"], cwd=machine, text=True, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=container | job.asked["environment"] | job.asked.get("secrets", {}),
        )  # fmt: skip
        job.started = time.time()
        if job.stage == "SCHEDULING":
            job.stage = "RUNNING"
        timer = threading.Timer(job.asked["timeoutSeconds"], job.end, ("ERROR", "Job timeout"))
        timer.start()
        assert job.process.stdout is not None
        for line in job.process.stdout:
            job.say(line.rstrip("\n"))
        code = job.process.wait()
        timer.cancel()
        job.end("COMPLETED" if code == 0 else "ERROR", None if code == 0 else f"Exit code {code}")
        shutil.rmtree(machine, ignore_errors=True)

    def answer(self, handler: BaseHTTPRequestHandler, verb: str, body: bytes) -> bool:
        """Answer what concerns jobs and downloads; False for the rest."""
        address = urlsplit(handler.path)
        parts = address.path.strip("/").split("/")
        if handler.headers.get("Authorization") != f"Bearer {TOKEN}" and parts[:2] != ["api", "jobs"]:
            return False
        if "resolve" in parts and verb in ("GET", "HEAD"):
            return self._file(handler, verb, parts)
        if address.path == "/api/whoami-v2":
            return _json(handler, 200, {"type": "user", "id": "1", "name": "me", "auth": {"accessToken": {}}})
        if address.path == "/api/repos/delete" and verb == "DELETE":
            told = json.loads(body)
            name = f"{told.get('organization') or 'me'}/{told['name']}"
            return _json(handler, 200 if self.hub.repositories.pop(name, None) else 404, {})
        if parts[:2] == ["api", "jobs"]:
            return self._job(handler, verb, parts[2:], parse_qs(address.query), body)
        return False

    def _job(
        self, handler: BaseHTTPRequestHandler, verb: str, parts: list[str], query: dict[str, list[str]], body: bytes
    ) -> bool:
        if parts == ["hardware"]:
            return _json(handler, 200, MACHINES)
        if handler.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _json(handler, 401, {"error": "Invalid credentials"})
        if len(parts) == 1 and verb == "POST":
            if self.refuses is not None:
                return _json(handler, self.refuses[0], {"error": self.refuses[1]})
            return _json(handler, 200, self.start(json.loads(body)).told())
        if len(parts) == 1:
            wanted = [tuple(one.split("=", 1)) for one in query.get("label", [])]
            found = [job for job in self.jobs.values() if set(wanted) <= set((job.asked.get("labels") or {}).items())]
            return _json(handler, 200, [job.told() for job in reversed(found)])
        job = self.jobs.get(parts[1])
        if job is None:
            return _json(handler, 404, {"error": "Job not found"})
        if parts[2:] == ["cancel"]:
            job.end("CANCELED")
        if parts[2:] == ["logs"]:
            return self._log(handler, job)
        return _json(handler, 200, job.told())

    def _log(self, handler: BaseHTTPRequestHandler, job: RemoteJob) -> bool:
        """All lines from the first one, and then each as it comes, as server-sent events."""
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        sent = 0
        with contextlib.suppress(OSError):
            while True:
                with job.change:
                    if len(job.lines) == sent and not job.has_ended:
                        job.change.wait(timeout=5)
                    lines, ended = job.lines[sent:], job.has_ended
                for line in lines:
                    told = {"timestamp": datetime.now(UTC).isoformat(), "data": line}
                    handler.wfile.write(f"data: {json.dumps(told)}\n\n".encode())
                handler.wfile.flush()
                sent += len(lines)
                if ended and sent == len(job.lines):
                    break
        return True

    def _file(self, handler: BaseHTTPRequestHandler, verb: str, parts: list[str]) -> bool:
        at = parts.index("resolve")
        repository = self.hub.repositories.get("/".join(parts[at - 2 : at]))
        files = repository.states.get(parts[at + 1], repository.files) if repository else {}
        data = files.get("/".join(parts[at + 2 :]))
        if repository is None or data is None:
            handler.send_response(404)
            handler.send_header("X-Error-Code", "EntryNotFound" if repository else "RepoNotFound")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True
        handler.send_response(200)
        handler.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        handler.send_header("X-Repo-Commit", "0" * 40 if parts[at + 1] == "main" else parts[at + 1])
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if verb == "GET":
            handler.wfile.write(data)
        return True


def _json(handler: BaseHTTPRequestHandler, status: int, answer: Any) -> bool:
    data = json.dumps(answer).encode()
    handler.send_response(status)
    if status >= 400:
        handler.send_header("X-Error-Message", str(answer.get("error")))
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
    return True


@contextmanager
def jobs_server(folder: Path) -> Iterator[Jobs]:
    """The hub's stand-in with machines; none of them outlives it."""
    with hub_server() as hub:
        jobs = Jobs(hub, folder)
        hub.more = jobs.answer
        try:
            yield jobs
        finally:
            for job in jobs.jobs.values():
                job.end("DELETED")
