"""A project's trainings as the page sees them, whether jobs of their own or stages of a demo, and their numbers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from studio.records import Checkpoint, Job
from studio.store import Store
from studio.ui.charts import Point

KEPT = 8  # trainings whose numbers stay in memory


@dataclass(frozen=True)
class Training:
    """One training: a job, or a stage of one."""

    job: Job
    stage: str  # "" is the whole job
    method: str
    name: str
    config: dict[str, Any]  # effective, of the method
    pairs: int | None  # how many it is trained on, None while that is not known
    parts: int = 0  # adapters that it is the sum of

    @property
    def key(self) -> str:
        return f"{self.job.id}:{self.stage}" if self.stage else self.job.id

    @property
    def title(self) -> str:
        before = {"demo": "Demo: ", "sweep": "Sweep: "}.get(self.job.kind, "")
        return f"{before}{self.name}"

    @property
    def state(self) -> str:
        """A stage is done when its job has its result; until then it shares the job's state."""
        return "done" if self.stage and self.stage in self.job.result else self.job.state

    @property
    def total(self) -> int:
        return int(self.config.get("steps", 0))

    @property
    def checkpoint_id(self) -> str:
        result = self.job.result.get(self.stage, {}) if self.stage else self.job.result
        return str(result.get("checkpoint_id", ""))

    def checkpoint(self, checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
        return next((one for one in checkpoints if one.id == self.checkpoint_id), None)


def trainings_of(jobs: Sequence[Job]) -> list[Training]:
    """In the order they were asked for; of jobs with several the stages that have begun, and then their sum."""
    found = []
    for job in jobs:
        if job.kind not in ("train", "demo", "sweep"):
            continue
        begun = job.config.get("stages", {})
        stages = [_training(job, stage, config) for stage, config in begun.items() if "method" in config]
        found += stages
        if job.kind == "train" and (not stages or "checkpoint_id" in job.result):
            found.append(_training(job, "", job.config))
    return found


def _training(job: Job, stage: str, config: dict[str, Any]) -> Training:
    pairs = config.get("pairs")
    return Training(
        job=job,
        stage=stage,
        method=str(config.get("method", "")),
        name=str(config.get("name") or config.get("method", "")),
        config=dict(config.get("config", {})),
        pairs=len(pairs) if pairs is not None else None,
        parts=0 if stage else len(config.get("groups", {})),
    )


class Curves:
    """The numbers of trainings, step by step. A tick reads what is new: a long training has a hundred thousand rows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[str, tuple[float | None, list[dict[str, float]]]] = {}  # by job: its start, and its rows
        self._lock = threading.Lock()  # one visitor's tick at a time

    def of(self, training: Training) -> dict[str, list[Point]]:
        """Points (step, value) by the number's name."""
        with self._lock:
            rows = self._read(training.job)
            return _series(rows, training.stage)

    def _read(self, job: Job) -> list[dict[str, float]]:
        """A job that was started again writes steps anew that it had written before: it is read from the beginning."""
        started, rows = self._rows.pop(job.id, (job.started, []))
        if started != job.started:
            rows = []
        if rows:
            rows.pop()  # its last step may have been written in two parts
        rows += self._store.job_metrics(job.id, after=int(rows[-1]["step"]) if rows else -1)
        self._rows[job.id] = (job.started, rows)
        for oldest in list(self._rows)[:-KEPT]:
            del self._rows[oldest]
        return rows


def _series(rows: Sequence[dict[str, float]], stage: str) -> dict[str, list[Point]]:
    """A stage's numbers bear its name, and their steps are those of the whole job."""
    series: dict[str, list[Point]] = {}
    prefix = f"{stage}." if stage else ""
    count = 0
    for row in rows:
        own = {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}
        step = own.pop("step", None)
        if not own:
            continue
        count += 1
        for name, value in own.items():
            series.setdefault(name, []).append((count if step is None else step, value))
    return series
