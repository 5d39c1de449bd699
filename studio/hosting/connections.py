"""Ends connections that do not say what they want. Uvicorn waits for a request's head for ever, and counts nobody.

Its own time-out is for the pause between two requests alone, so whoever opens connections and sends a byte a minute, or
nothing, could hold all of them.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from studio.hosting.limits import Limits

LOOK_SECONDS = 2.0
log = logging.getLogger(__name__)


def waits_for_head(connection: Any) -> bool:
    """Whether no request is being answered on it: none came yet, or the last one has its answer."""
    cycle = getattr(connection, "cycle", None)
    return cycle is None or bool(cycle.response_complete)


class ConnectionWatch(threading.Thread):
    """Looks at the connections of a running uvicorn server."""

    def __init__(self, server: Any, limits: Limits, look: float = LOOK_SECONDS) -> None:
        super().__init__(name="connection-watch", daemon=True)
        self.server, self.limits, self.look = server, limits, look
        self._since: dict[Any, float] = {}
        if limits.connections:
            server.config.limit_concurrency = limits.connections  # of connections that are made from now on

    def run(self) -> None:
        while not self.server.should_exit:
            time.sleep(self.look)
            self.tick(time.monotonic())

    def tick(self, now: float) -> None:
        """Close what has said nothing whole for `seconds`."""
        waiting = {one for one in self.server.server_state.connections.copy() if waits_for_head(one)}
        self._since = {one: self._since.get(one, now) for one in waiting}
        for one, since in self._since.items():
            if self.limits.seconds and now - since > self.limits.seconds:
                log.warning("A connection that sent no whole request in %s s was closed.", self.limits.seconds)
                one.loop.call_soon_threadsafe(one.transport.close)
