"""Workers that start in a moment: a process that has loaded PyTorch already, of which they are copies. No torch here.

Loading PyTorch and diffusers takes longer than many a job. The page therefore starts one process that does it once and
then forks itself for every worker; their memory is one as long as nobody writes to it. What cannot be forked (another
environment, a machine with a GPU, whose driver does not survive a fork, a system other than Linux) is started anew.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ADDRESS = "DUO_STUDIO_FORK_SERVER"  # the socket, in the environment of whoever may use it
MODULES = ("studio.workflow", "studio.inference.worker")  # what the server has loaded everything for
ACCELERATORS = ("dev/nvidiactl", "dev/kfd", "dev/dxg", "dev/accel")
OWN = ("DUO_STUDIO_", "GRADIO_", "PYTEST_")  # variables that no library reads when it is loaded
OWN_NAMES = {"PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES"}
LENGTH = struct.Struct("!I")
EXIT = struct.Struct("!i")
BORN = struct.Struct("!id")  # process id and start time
GONE = 1 << 16  # the code of a worker whose end nobody heard of
POLL = 0.05  # seconds between two looks at such a worker


def possible(root: Path = Path("/")) -> bool:
    """Whether workers can be copies here: Linux, and no GPU or other accelerator, nor one that is lent (ZeroGPU)."""
    if not sys.platform.startswith("linux") or "SPACES_ZERO_GPU" in os.environ:
        return False
    return not any((root / device).exists() for device in ACCELERATORS)


def same_surroundings(own: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether libraries that were loaded in one environment behave in the other as if they had been loaded there."""

    def read(environment: Mapping[str, str]) -> dict[str, str]:
        return {
            name: value for name, value in environment.items() if name not in OWN_NAMES and not name.startswith(OWN)
        }

    return read(own) == read(other)


class ForkServer:
    """Starts the process and ends it. Its workers outlive it."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        """Returns at once; whoever asks for a worker waits until PyTorch is loaded."""
        self._folder = Path(tempfile.mkdtemp(prefix="duo-studio-"))  # its owner's alone
        self.address = self._folder / "forks"
        with socket.socket(socket.AF_UNIX) as listener, log.open("ab") as output:
            listener.bind(str(self.address))
            listener.listen(16)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "studio.fork_server", str(listener.fileno())],
                env=dict(environment),
                start_new_session=True,
                stdin=subprocess.PIPE,  # its end ends the server, however this process ends
                stdout=output,
                stderr=output,
                pass_fds=[listener.fileno()],
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        if os.environ.get(ADDRESS) == str(self.address):
            del os.environ[ADDRESS]
        self._process.kill()  # it holds nothing but its workers' exit codes
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Forked:
    """A worker that is a copy of the server; what `subprocess.Popen` offers of it as far as it is used here."""

    def __init__(self, pid: int, started: float, connection: socket.socket) -> None:
        self.pid, self.started = pid, started
        self.returncode: int | None = None
        self._connection = connection
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        try:
            return self.wait(timeout=0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, `GONE` where the server ended before it. Raises subprocess.TimeoutExpired."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = None if until is None else max(0.0, until - time.monotonic())
            waiting = select.poll()
            waiting.register(self._connection, select.POLLIN)
            if not waiting.poll(None if left is None else 1000 * left):
                raise subprocess.TimeoutExpired(f"worker {self.pid}", timeout or 0)
            with self._lock:
                self._hear()
            if self.returncode is None and until is not None and time.monotonic() >= until:
                raise subprocess.TimeoutExpired(f"worker {self.pid}", timeout or 0)
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _hear(self) -> None:
        """Take the exit code; where the server is gone, look after the process for a moment."""
        from studio.processes import is_alive  # which starts workers by this module

        if self.returncode is not None:
            return
        try:
            data = self._connection.recv(EXIT.size)
        except OSError:
            data = b""
        if len(data) == EXIT.size:
            (self.returncode,) = EXIT.unpack(data)
        elif is_alive(self.pid, self.started):
            time.sleep(POLL)
            return
        else:
            self.returncode = GONE
        self._connection.close()


def fork_python(arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[int]) -> Forked | None:
    """`python -m MODULE …` as a copy of the server that the environment names, with these as its first three files.

    Waits while the server loads. None where there is no server, it has ended, or this worker cannot be a copy.
    """
    address = environment.get(ADDRESS, "")
    if not address or arguments[:1] != ["-m"] or arguments[1] not in MODULES:
        return None
    request = {"arguments": list(arguments), "environment": dict(environment), "folder": str(Path.cwd())}
    body = json.dumps(request).encode()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
        socket.send_fds(connection, [LENGTH.pack(len(body))], list(files))
        connection.sendall(body)
        answer = connection.recv(BORN.size, socket.MSG_WAITALL)
    except OSError:
        answer = b""
    if len(answer) < BORN.size:
        connection.close()
        return None
    pid, started = BORN.unpack(answer)
    return Forked(pid, started, connection)
