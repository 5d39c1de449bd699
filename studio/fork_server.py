"""The process that workers are copies of, `python -m studio.fork_server SOCKET`: it has loaded what they need.

One connection a worker: the request with the worker's first three files comes, process id and start time go back, and
at its end its exit code. The server computes nothing and starts no thread, so that a copy is as good as a fresh start.
It ends when its stdin does, that is with the process that started it.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from setproctitle import setproctitle

from studio.forks import BORN, EXIT, LENGTH, same_surroundings
from studio.processes import start_time

PATIENCE = 10.0  # seconds for a request that has begun


@dataclass(frozen=True)
class Request:
    """A worker to be."""

    arguments: list[str]  # ["-m", MODULE, …]
    environment: dict[str, str]
    folder: str
    files: list[int]


class Server:
    """Forks on request, and tells how the copies ended."""

    def __init__(self, listener: socket.socket, surroundings: Mapping[str, str]) -> None:
        """`surroundings` are the environment in which libraries were loaded, before they added to it."""
        self.listener, self.surroundings = listener, surroundings
        self.connections: dict[int, socket.socket] = {}  # by process id
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)
        self.selector.register(0, selectors.EVENT_READ)
        self.wake, self.wakened = os.pipe()
        for end in (self.wake, self.wakened):
            os.set_blocking(end, False)
        self.selector.register(self.wake, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wakened)

    def serve(self) -> Request | None:
        """For ever. Returns in a copy, with what it is to be, and here when stdin ends, with None."""
        while True:
            for key, _ in self.selector.select():
                if key.fd == 0:
                    return None
                if key.fd == self.wake:
                    with suppress(BlockingIOError):
                        os.read(self.wake, 4096)
                    self._bury()
                elif (request := self._accept()) is not None:
                    return request

    def _accept(self) -> Request | None:
        """Fork for whoever connects, unless libraries would behave differently there. The request in the copy alone."""
        connection, _ = self.listener.accept()
        connection.settimeout(PATIENCE)
        try:
            request = receive(connection)
        except (OSError, ValueError, KeyError):
            connection.close()
            return None
        if not same_surroundings(self.surroundings, request.environment):
            pid = -1
        elif (pid := os.fork()) == 0:
            connection.close()
            self._leave()
            return request
        for file in request.files:
            os.close(file)
        if pid < 0:
            connection.close()
            return None
        self.connections[pid] = connection
        with suppress(OSError):
            connection.sendall(BORN.pack(pid, start_time(pid)))
        return None

    def _bury(self) -> None:
        """Tell the exit codes of copies that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if connection := self.connections.pop(pid, None):
                with suppress(OSError), connection:
                    connection.sendall(EXIT.pack(os.waitstatus_to_exitcode(status)))

    def _leave(self) -> None:
        """In a copy: let go of all that is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.selector.close()
        for connection in self.connections.values():
            connection.close()
        self.listener.close()
        os.close(self.wake)
        os.close(self.wakened)


def receive(connection: socket.socket) -> Request:
    """A whole request. Raises OSError, ValueError or KeyError where it is none."""
    head, files, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
    try:
        (length,) = LENGTH.unpack(head)
        with connection.makefile("rb") as body:
            said: dict[str, Any] = json.loads(body.read(length))
        return Request(said["arguments"], said["environment"], said["folder"], list(files))
    except BaseException as error:
        for file in files:
            os.close(file)
        raise ValueError(f"no request: {error}") from error


def become(request: Request) -> None:
    """Take over the worker's files, folder and environment, in a session of its own."""
    os.setsid()
    for number, file in enumerate(request.files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request.folder)
    set_environment(request.environment)
    sys.argv = ["", *request.arguments[2:]]
    setproctitle(" ".join([sys.executable, *request.arguments]))


def set_environment(wanted: Mapping[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)


def load() -> None:
    """All that workers need."""
    import_module("studio.inference.renderer")
    import_module("studio.workflow")


def main() -> None:
    surroundings = dict(os.environ)
    setproctitle(f"{sys.executable} -m studio.fork_server")  # its first use must come before libraries change things
    load()
    listener = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(listener.fileno(), False)
    gc.collect()
    gc.freeze()  # a collection in a copy need not write to the memory of all this
    request = Server(listener, surroundings).serve()
    if request is not None:
        become(request)
        runpy.run_module(request.arguments[1], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
