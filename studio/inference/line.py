"""The line before the inference worker, which draws one comparison at a time: places and waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from studio.durations import roughly
from studio.hosting.roles import asker

REMEMBERED = 8  # comparisons, by whose seconds the wait is estimated


class InferenceError(RuntimeError):
    """Pictures could not be made; says why, with the worker's last lines where it died."""


class LineError(InferenceError):
    """The line is too long, or this visitor stands in it already; says what to do."""


class Line:
    """Places in the order in which they were asked for. Safe to share by threads."""

    def __init__(self, most: int, own: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`most` of all visitors and `own` of one may stand in it, the first one among them; 0 is no limit."""
        self.most, self.own, self.clock = most, own, clock
        self._places: list[Place] = []
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()

    @contextmanager
    def place(self, visitor: str) -> Iterator[Place]:
        """A place until the block ends. Raises LineError."""
        place = Place(self, visitor)
        with self._lock:
            mine = sum(other.visitor == visitor for other in self._places)
            if visitor and self.own and mine >= self.own:
                raise LineError(
                    f"You have {mine} comparisons here already, and {self.own} are the most at once. Wait for one of "
                    "them, or stop it."
                )
            if self.most and len(self._places) > self.most:
                raise LineError(f"{len(self._places) - 1} comparisons wait already. Try again in a minute.")
            self._places.append(place)
            if len(self._places) == 1:
                place.began = self.clock()
        try:
            yield place
        finally:
            self.leave(place)

    def leave(self, place: Place) -> None:
        with self._lock:
            if place in self._places:
                self._places.remove(place)
            if self._places and self._places[0].began is None:
                self._places[0].began = self.clock()

    def before(self, place: Place) -> int:
        with self._lock:
            return self._places.index(place) if place in self._places else 0

    def wait(self, place: Place) -> float | None:
        """Seconds until its turn, by the mean of the last comparisons; None before there was one."""
        with self._lock:
            if place not in self._places or not self._seconds:
                return None
            mean = sum(self._seconds) / len(self._seconds)
            began = self._places[0].began
            gone = min(self.clock() - began, mean) if began is not None else 0.0
            return max(self._places.index(place) * mean - gone, 1.0)

    def ended(self, place: Place) -> None:
        with self._lock:
            if place.began is not None:
                self._seconds.append(self.clock() - place.began)


class Place:
    """One comparison's place in the line."""

    def __init__(self, line: Line, visitor: str) -> None:
        self.line, self.visitor = line, visitor
        self.began: float | None = None  # when it became the first

    def words(self) -> str:
        """What a waiting visitor is told; "" at the head of the line."""
        before = self.line.before(self)
        if not before:
            return ""
        wait = self.line.wait(self)
        about = "" if wait is None else f"; about {roughly(wait)} until it is your turn"
        return f"{before} comparison{'' if before == 1 else 's'} before yours{about}"

    def done(self) -> None:
        """It was drawn to its end: its time counts for the next estimates."""
        self.line.ended(self)


def visitor_key() -> str:
    """Who asks; "" for this machine's owner and for programs, of whom any number may wait."""
    viewer = asker.get()
    return "" if viewer is None or (viewer.is_owner and not viewer.signed_in) else viewer.key
