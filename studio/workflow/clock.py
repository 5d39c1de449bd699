"""How long a training took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from models.files import write_atomically
from studio.progress import Report


class TrainingClock:
    """Seconds of training over all tries of a job; a report on its way to `report`.

    The count is kept in a file, so that a killed worker's time is not lost: steps that are trained again after a
    crash count again.
    """

    INTERVAL = 5.0  # seconds between two writes

    def __init__(self, path: Path, report: Report) -> None:
        self.path, self._report = path, report
        self.seconds = float(path.read_text()) if path.is_file() else 0.0
        self._last = time.perf_counter()

    def __enter__(self) -> TrainingClock:
        self._last = time.perf_counter()
        return self

    def __call__(self, step: int, total: int, message: str = "", **values: float) -> None:
        if time.perf_counter() - self._last > self.INTERVAL:
            self._count()
        self._report(step, total, message, **values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, no time is counted."""
        self._count()
        try:
            yield
        finally:
            self._last = time.perf_counter()

    def _count(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._last
        self._last = now
        write_atomically(self.path, str(self.seconds).encode())
