"""What attacks found and what it showed. Part of the store."""

from __future__ import annotations

from collections.abc import Iterable

from studio.database import RecordFile
from studio.records import AttackRun


class AttackRows(RecordFile):
    """The part of the store that attacks fill."""

    def add_attack_runs(self, runs: Iterable[AttackRun]) -> list[AttackRun]:
        """All of them or, on an error, none: a job has one row a model, role, prompt and seed."""
        with self._writing():
            return [self._insert(run) for run in runs]

    def list_attack_runs(self, project_id: str, job_id: str | None = None) -> list[AttackRun]:
        """Oldest first; of one job, or of all."""
        return self._select(AttackRun, "project_id = ? AND coalesce(job_id = ?, 1)", project_id, job_id)

    def count_attack_runs(self, project_id: str) -> int:
        """Rows are only ever added, so what has the same count is the same."""
        return int(self._value("SELECT count(*) FROM attack_runs WHERE project_id = ?", project_id))
