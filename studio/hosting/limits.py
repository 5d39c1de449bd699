"""How much one visitor may ask, how long a request may take to arrive, and how many wait for pictures."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass

from studio.named_values import read_fields

MOST_VISITORS = 10_000  # whose pace is remembered


class LimitsError(ValueError):
    """A limit that cannot be; says which, its value and the remedy."""


@dataclass(frozen=True)
class Limits:
    """0 is no limit."""

    requests: float = 30.0  # a second and visitor; ten times as many at once
    waiting: int = 20  # comparisons that wait for pictures, of all visitors
    own_waiting: int = 2  # of one visitor
    jobs: int = 10  # of one signed-in user that have not ended
    seconds: float = 30.0  # for a request's head to arrive, and for its body to go on
    connections: int = 512

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value <= 1e6:
                raise LimitsError(f"{name} is {value:g}; it must lie between 0, which is no limit, and 1,000,000.")


def read_limits(text: str) -> Limits:
    """Limits from "requests=10, jobs=2": what is not named is as in `Limits()`. Raises LimitsError."""
    return Limits(**read_fields(text, Limits, LimitsError, "a number"))


def write_limits(limits: Limits) -> str:
    """What `read_limits` reads."""
    return ", ".join(f"{name}={value}" for name, value in asdict(limits).items())


class Pace:
    """A bucket of tokens a visitor: `rate` a second, `burst` at once. Safe to share by threads."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.clock = rate, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, visitor: str) -> float:
        """Take one; 0 where it was there, else the seconds until it will be."""
        if self.rate <= 0:
            return 0.0
        now = self.clock()
        with self._lock:
            left, then = self._left.pop(visitor, (self.burst, now))
            left = min(self.burst, left + (now - then) * self.rate)
            taken = left >= 1
            self._left[visitor] = (left - taken, now)
            if len(self._left) > MOST_VISITORS:
                self._left.popitem(last=False)
        return 0.0 if taken else (1 - left) / self.rate

    def give_back(self, visitor: str) -> None:
        """What was taken did no harm."""
        with self._lock:
            if visitor in self._left:
                left, then = self._left[visitor]
                self._left[visitor] = (min(self.burst, left + 1), then)
