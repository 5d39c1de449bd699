"""Ends connections that do not say what they want. Uvicorn waits for a request's head for ever, and counts nobody.

Its own time-out is for the pause between two requests alone, so whoever opens connections and sends a byte a minute, or
nothing, could hold all of them. That pause is made long here: a client that sends its next request in the moment in
which an idle connection is closed never gets an answer, and many clients give up an idle one after 5 s, as uvicorn
would.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from studio.hosting.limits import Limits

LOOK_SECONDS = 2.0
KEEP_ALIVE = 75  # seconds between two requests of a connection, longer than clients and proxies keep an idle one
CROWDED = 0.5  # of the connections that there may be; beyond it idle ones make room …
HURRY = 3.0  # … and so much time is left for a request's head
log = logging.getLogger(__name__)


def is_idle(connection: Any) -> bool:
    """Whether the last request has its answer and nothing of the next one came: uvicorn's own clock runs."""
    return getattr(connection, "timeout_keep_alive_task", None) is not None


def waits_for_head(connection: Any) -> bool:
    """Whether a request is being sent, or was not begun on a connection that had none yet."""
    cycle = getattr(connection, "cycle", None)
    return (cycle is None or bool(cycle.response_complete)) and not is_idle(connection)


class ConnectionWatch(threading.Thread):
    """Looks at the connections of a running uvicorn server."""

    def __init__(self, server: Any, limits: Limits, look: float = LOOK_SECONDS) -> None:
        super().__init__(name="connection-watch", daemon=True)
        self.server, self.limits, self.look = server, limits, look
        self._since: dict[Any, float] = {}
        self._idle: dict[Any, Any] = {}  # connection to its last request
        server.config.timeout_keep_alive = KEEP_ALIVE  # as the next line: of connections that are made from now on
        if limits.connections:
            server.config.limit_concurrency = limits.connections
        for one in server.server_state.connections.copy():  # whoever waited for the start
            one.loop.call_soon_threadsafe(_keep_longer, one)

    def run(self) -> None:
        while not self.server.should_exit:
            time.sleep(self.look)
            self.tick(time.monotonic())

    def tick(self, now: float) -> None:
        """Close what has said nothing whole for `seconds`; where it is crowded, sooner, and what was idle at the last
        tick too.
        """
        connections = self.server.server_state.connections.copy()
        waiting = {one for one in connections if waits_for_head(one)}
        self._since = {one: self._since.get(one, now) for one in waiting}
        crowded = 0 < self.limits.connections * CROWDED < len(connections)
        seconds = min(self.limits.seconds, HURRY) if crowded else self.limits.seconds
        for one, since in self._since.items():
            if self.limits.seconds and now - since > seconds:
                log.warning("A connection that sent no whole request in %s s was closed.", seconds)
                one.loop.call_soon_threadsafe(_close, one, waits_for_head)
        idle = {one: one.cycle for one in connections if is_idle(one)}
        if crowded:
            for one, cycle in idle.items():
                if self._idle.get(one) is cycle:
                    one.loop.call_soon_threadsafe(_close, one, is_idle)
        self._idle = idle


def _keep_longer(connection: Any) -> None:
    connection.timeout_keep_alive = KEEP_ALIVE
    if is_idle(connection):
        connection.timeout_keep_alive_task.cancel()
        wait = connection.loop.call_later(KEEP_ALIVE, connection.timeout_keep_alive_handler)
        connection.timeout_keep_alive_task = wait


def _close(connection: Any, still: Any) -> None:
    """In the server's own thread, where nothing can arrive meanwhile."""
    if still(connection):
        connection.transport.close()
