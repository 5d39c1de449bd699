"""What a worker tells of its work: progress, time left and measured values into the job's row. Torch-free."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from studio.progress import Stopped
from studio.store import Store


class JobReport:
    """The `Report` of a job: writes progress into its row, keeps values as its metrics, raises `Stopped` when asked."""

    def __init__(
        self, store: Store, job_id: str, *, interval: float = 0.5, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._job_id, self._interval, self._clock = store, job_id, interval, clock
        self._pace = Pace()
        self._fields: dict[str, Any] = {}
        self._metrics: dict[int, dict[str, float]] = {}
        self._written: float | None = None

    def __call__(self, step: int, total: int, message: str = "", **values: float) -> None:
        """Tell one step. Writes at most every `interval` seconds, and always the last step of `total`."""
        now = self._clock()
        self._fields |= {"step": step, "total": total, "eta_seconds": self._pace.eta(step, total, now)}
        if message:
            self._fields["message"] = message
        if values:
            self._metrics.setdefault(step, {}).update(values)
        if self._written is None or now - self._written >= self._interval or step >= total:
            self._written = now
            self.flush()
            if self._store.stop_requested(self._job_id):
                raise Stopped(f"Job {self._job_id} was asked to stop at step {step} of {total}.")

    def flush(self) -> None:
        """Write what is not yet written; for the end of work that ends before its last step."""
        metrics, self._metrics = self._metrics, {}
        for step, values in metrics.items():
            self._store.add_job_metrics(self._job_id, step, values)
        self._store.update_job(self._job_id, heartbeat=time.time(), **self._fields)


def job_report(store: Store, job_id: str) -> JobReport:
    """The report that a worker hands to its work."""
    return JobReport(store, job_id)


class Pace:
    """Seconds a step, from the steps done in this run alone: a resumed run starts counting where it takes up."""

    SMOOTHING = 0.1  # a plain mean over the first steps, then this weight for the newest one

    def __init__(self) -> None:
        self._total = self._step = self._first = 0
        self._time = self._seconds = 0.0

    def eta(self, step: int, total: int, now: float) -> float | None:
        """Seconds left, None until two steps of the same work were seen. Another total or a step back starts anew."""
        if total != self._total or step < self._step:
            self._total, self._first, self._step, self._time = total, step, step, now
            return None
        if step > self._step:
            weight = max((step - self._step) / (step - self._first), self.SMOOTHING)
            self._seconds += weight * ((now - self._time) / (step - self._step) - self._seconds)
            self._step, self._time = step, now
        return (total - step) * self._seconds if step > self._first else None
