"""How often models show the concept under a condition: cells of stress tables and transfer matrices."""

from __future__ import annotations

from studio.database import RecordFile
from studio.records import Trial


class TrialRows(RecordFile):
    """The part of the store that stress and transfer jobs fill, a row a cell."""

    def add_trial(self, trial: Trial) -> Trial:
        """Raises StoreError where the job has this condition and model already."""
        return self._insert(trial)

    def list_trials(self, project_id: str, job_id: str | None = None) -> list[Trial]:
        """Oldest first; of one job, or of all."""
        return self._select(Trial, "project_id = ? AND coalesce(job_id = ?, 1)", project_id, job_id)

    def count_trials(self, project_id: str) -> int:
        """Rows are only ever added, so what has the same count is the same."""
        return int(self._value("SELECT count(*) FROM trials WHERE project_id = ?", project_id))
