"""Which open page was given which pairs, so that two reviewers do not look at the same one.

A courtesy, kept in memory and forgotten after a while: what counts are the verdicts, and both may decide on one pair.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

KEPT_SECONDS = 30.0


class Turns:
    """Pairs in hand, by project and by open page. Safe to share by threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], tuple[float, frozenset[str]]] = {}

    def take(self, project_id: str, desk: str, pair_ids: set[str]) -> None:
        """What this page now has in hand, in place of what it had."""
        if desk:
            with self._lock:
                self._held[project_id, desk] = self._clock() + KEPT_SECONDS, frozenset(pair_ids - {""})

    def keep(self, project_id: str, desk: str) -> None:
        """The page is still open."""
        with self._lock:
            if held := self._held.get((project_id, desk)):
                self._held[project_id, desk] = self._clock() + KEPT_SECONDS, held[1]

    def of_others(self, project_id: str, desk: str) -> set[str]:
        """What the project's other open pages have in hand."""
        with self._lock:
            now = self._clock()
            self._held = {key: held for key, held in self._held.items() if held[0] > now}
            others = [held[1] for key, held in self._held.items() if key[0] == project_id and key[1] != desk]
        return set().union(*others)
