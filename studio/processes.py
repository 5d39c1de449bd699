"""Child processes (POSIX): started in their own group, known again by id and start time, ended with their group."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from studio.forks import ADDRESS, GONE, Forked, ForkServer, fork_python, possible
from studio.settings import REPOSITORY, Settings

CLOCK_TOLERANCE = 1.0  # seconds; a UTC start time is computed from the boot time, which a clock correction shifts
TICK_TOLERANCE = 0.1  # seconds; a start since boot never moves, this is for rounding
BOOT_STRIDE = 1e8  # seconds, three years: longer than most machines are up
PROC = Path("/proc")
_BAR = re.compile(r"[^\n\r]*\d%\|[^\n\r]*")  # a library's progress bar, as it is while something loads


def step_back(niceness: int) -> None:
    """Let others go first. Linux weighs sessions against each other, and niceness within one alone: a worker that leads
    its own session lowers that too."""
    os.nice(niceness)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # no such groups here
            (PROC / "self" / "autogroup").write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))


class Spawned(subprocess.Popen[bytes]):
    """A child process that was started anew."""

    @property
    def started(self) -> float:
        """See `start_time`."""
        return start_time(self.pid)


Child = Spawned | Forked


def start_python(
    settings: Settings, arguments: Sequence[str], *, stdin: int | None = None, stdout: int, stderr: int
) -> Child:
    """Start `python ARGUMENTS` with these settings, in a new session, so that no Ctrl-C of a terminal reaches it.

    It keeps the working directory, for the sake of relative paths, and finds the studio from anywhere. Its files are
    descriptors, which stay open here; without a stdin it reads nothing. A worker is a copy of the fork server where
    there is one, which makes this call wait until that has loaded PyTorch.
    """
    environment = child_environment(settings)
    with Path(os.devnull).open("rb") as nothing:
        files = (nothing.fileno() if stdin is None else stdin, stdout, stderr)
        return fork_python(arguments, environment, files) or Spawned(
            [sys.executable, *arguments],
            env=environment,
            start_new_session=True,
            stdin=files[0],
            stdout=stdout,
            stderr=stderr,
        )


def start_fork_server(settings: Settings) -> ForkServer | None:
    """From now on, workers of this process and of its children are copies of one that is started here.

    None where that is turned off or not possible, or where there is such a server already.
    """
    if not settings.fork or ADDRESS in os.environ or not possible():
        return None
    settings.logs.mkdir(parents=True, exist_ok=True)
    server = ForkServer(child_environment(settings), settings.logs / "fork-server.log")
    os.environ[ADDRESS] = str(server.address)
    return server


def child_environment(settings: Settings) -> dict[str, str]:
    """What every child reads its settings from."""
    # Threads of a worker that spin while they wait starve each other as soon as another process wants a core: beside a
    # running job, a picture took 55 s instead of 0.4 s on two cores. Whoever sets the variable knows better.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | settings.environment()
    paths = [str(REPOSITORY), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment.pop("OAUTH_CLIENT_SECRET", None)  # the page's alone
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))
    return environment


def start_time(pid: int) -> float:
    """A number for when the process started; with its id, this names it for good, since ids are used again.

    On Linux it is negative, see `_since_boot`, and no change of the clock moves it. Elsewhere, and in rows of earlier
    versions, it is in UTC seconds. Names are those of one kernel and one process namespace: two containers or machines
    that share a data folder take each other's workers for dead.

    Raises psutil.NoSuchProcess.
    """
    started = _since_boot(pid)
    return psutil.Process(pid).create_time() if started is None else started


def is_alive(pid: int | None, started: float | None) -> bool:
    """Whether this very process still runs; one that ended but was not yet waited for does not."""
    if pid is None or started is None:
        return False
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if started < 0:
            now = _since_boot(pid)
            return now is not None and abs(now - started) < TICK_TOLERANCE
        return abs(process.create_time() - started) < CLOCK_TOLERANCE
    except psutil.Error:
        return False


def _since_boot(pid: int) -> float | None:
    """Minus (seconds from boot to the process's start, plus the boot's own number times `BOOT_STRIDE`).

    The boot's number keeps a process from being taken for one that had its id and its second before a restart. None
    where the system does not tell (it is no Linux). Raises psutil.NoSuchProcess.
    """
    try:
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        ticks = int(fields.rpartition(")")[2].split()[19])  # the 22nd field; the second may hold spaces and brackets
    except (OSError, IndexError, ValueError):
        if PROC.is_dir() and not psutil.pid_exists(pid):
            raise psutil.NoSuchProcess(pid) from None
        return None
    try:
        boot = int((PROC / "sys/kernel/random/boot_id").read_text()[:5], 16)
    except (OSError, ValueError):
        boot = 0
    return -(ticks / os.sysconf("SC_CLK_TCK") + boot * BOOT_STRIDE)


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
        text = _BAR.sub("", file.read().decode("utf-8", "replace"))
    # A progress bar rewrites its line with carriage returns: only its last state counts.
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return "\n".join([line for line in lines if line][-count:])


def describe_exit(code: int | None) -> str:
    """An exit code in words, e.g. "was killed by SIGKILL"."""
    if code is None or code == GONE:
        return "is gone"
    if code < 0:
        memory = " (often: out of memory)" if -code == signal.SIGKILL else ""
        name = {known.value: known.name for known in signal.Signals}.get(-code, f"signal {-code}")
        return f"was killed by {name}{memory}"
    return f"ended with exit code {code}"
