"""Child processes (POSIX): started in their own group, known again by id and start time, ended with their group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from studio.settings import REPOSITORY, Settings

CLOCK_TOLERANCE = 1.0  # seconds; a start time is computed from the boot time, which a clock correction shifts a little


def start_python(
    settings: Settings,
    arguments: Sequence[str],
    *,
    stdin: IO[Any] | int = subprocess.DEVNULL,
    stdout: IO[Any] | int | None = None,
    stderr: IO[Any] | int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `python ARGUMENTS` with these settings, in a new session, so that no Ctrl-C of a terminal reaches it.

    It keeps the working directory, for the sake of relative paths, and finds the studio from anywhere.
    """
    # Threads of a worker that spin while they wait starve each other as soon as another process wants a core: beside a
    # running job, a picture took 55 s instead of 0.4 s on two cores. Whoever sets the variable knows better.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | settings.environment()
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        start_new_session=True,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )


def start_time(pid: int) -> float:
    """When the process started, in UTC seconds; with its id, this names it for good, since ids are used again.

    Raises psutil.NoSuchProcess.
    """
    return psutil.Process(pid).create_time()


def is_alive(pid: int | None, started: float | None) -> bool:
    """Whether this very process still runs; one that ended but was not yet waited for does not."""
    if pid is None or started is None:
        return False
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < CLOCK_TOLERANCE
    except psutil.Error:
        return False


def signal_worker(pid: int, started: float, word: str, signum: signal.Signals) -> bool:
    """Send SIGKILL to the whole group of a worker, any other signal to itself alone. False where it is gone.

    `word` is on the worker's command line (its job's id) and proves that the signal meets no other process; this one,
    which has it there too in `jobs resume`, is no worker.
    """
    if pid == os.getpid() or not is_alive(pid, started):
        return False
    try:
        if word not in psutil.Process(pid).cmdline():
            return False
        if signum == signal.SIGKILL:
            os.killpg(pid, signum)
        else:
            os.kill(pid, signum)
    except (psutil.Error, ProcessLookupError):
        return False
    return True


def last_lines(path: Path, count: int = 8) -> str:
    """The last lines of a log that are not empty, "" where there is no log."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        text = file.read().decode("utf-8", "replace")
    # A progress bar rewrites its line with carriage returns: only its last state counts.
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return "\n".join([line for line in lines if line][-count:])


def describe_exit(code: int | None) -> str:
    """An exit code in words, e.g. "was killed by SIGKILL"."""
    if code is None:
        return "is gone"
    if code < 0:
        memory = " (often: out of memory)" if -code == signal.SIGKILL else ""
        name = {known.value: known.name for known in signal.Signals}.get(-code, f"signal {-code}")
        return f"was killed by {name}{memory}"
    return f"ended with exit code {code}"
