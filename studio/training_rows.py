"""What a training leaves step by step: its numbers and its sample pictures. Part of the store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from studio.database import RecordFile
from studio.records import Sample

SAMPLE_ROW = "job_id = ? AND stage = ? AND step = ?"


class TrainingRows(RecordFile):
    """The part of the store that a running job fills."""

    def add_job_metrics(self, job_id: str, step: int, values: Mapping[str, float]) -> None:
        """Keep the numbers of one step; a step reported again (after a resume) replaces its numbers."""
        rows = [(job_id, step, name, float(value)) for name, value in values.items()]
        sql = "INSERT OR REPLACE INTO job_metrics (job_id, step, name, value) VALUES (?, ?, ?, ?)"
        with self._writing() as db:
            db.conn.executemany(sql, rows)

    def job_metrics(self, job_id: str, after: int = -1) -> list[dict[str, float]]:
        """One dictionary a step above `after`, in order: {"step": 1, "loss": 0.69, …}. What is no number is NaN."""
        steps: dict[int, dict[str, float]] = {}
        sql = "SELECT step, name, value FROM job_metrics WHERE job_id = ? AND step > ? ORDER BY step, name"
        for row in self._db.query(sql, (job_id, after)):
            value = math.nan if row["value"] is None else row["value"]  # SQLite keeps NaN as NULL
            steps.setdefault(row["step"], {"step": row["step"]})[row["name"]] = value
        return list(steps.values())

    def put_sample_row(self, samples: Iterable[Sample]) -> list[Sample]:
        """Keep the pictures of one step, all of them or none; the row of a step drawn again is replaced."""
        samples = list(samples)
        with self._writing():
            for row in dict.fromkeys((sample.job_id, sample.stage, sample.step) for sample in samples):
                self._change(f"DELETE FROM samples WHERE {SAMPLE_ROW}", row)
            return [self._insert(replace(sample, id="")) for sample in samples]

    def list_samples(self, job_id: str, stage: str = "") -> list[Sample]:
        """Step after step, each in the order of its prompts."""
        rows = self._select(Sample, "job_id = ? AND stage = ?", job_id, stage)
        return sorted(rows, key=lambda sample: (sample.step, sample.position))

    def sampled_steps(self, job_id: str, stage: str = "") -> list[int]:
        """The steps that have a row of pictures, in order."""
        sql = "SELECT DISTINCT step FROM samples WHERE job_id = ? AND stage = ? ORDER BY step"
        return [row["step"] for row in self._db.query(sql, (job_id, stage))]
