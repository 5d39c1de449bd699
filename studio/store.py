"""All SQL of the studio: records in, records out.

Records come in with an empty `id` and `created`, and go out with both filled. What is refused raises `StoreError`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.attack_rows import AttackRows
from studio.attempt_rows import AttemptRows
from studio.bring_rows import BringRows
from studio.bulk_rows import BulkRows
from studio.care_rows import CareRows
from studio.database import FileFailure, NotFoundError, StoreError, copy_database, integrity_of
from studio.making_rows import MakingRows
from studio.migrations import migrations
from studio.picture_rows import PictureRows
from studio.project_rows import ProjectRows
from studio.prompt_rows import PromptRows
from studio.purge_rows import PurgeRows
from studio.quality_rows import QualityRows
from studio.records import ELSEWHERE, FINAL_STATES, Checkpoint, Evaluation, ImagePair, Job, JobState, Project
from studio.review_rows import ReviewRows
from studio.stop_rows import PairStoppedError
from studio.training_rows import TrainingRows
from studio.trial_rows import TrialRows
from studio.verdict_rows import DETECTOR, PairChangedError, VerdictRows

__all__ = [
    "DETECTOR", "FileFailure", "NotFoundError", "PairChangedError", "PairStoppedError", "Store", "StoreError",
    "copy_database", "integrity_of",
]  # fmt: skip


class Store(
    AttackRows, AttemptRows, BringRows, BulkRows, CareRows, MakingRows, PictureRows, ProjectRows, PromptRows,
    PurgeRows, QualityRows, ReviewRows, TrainingRows, TrialRows, VerdictRows,
):  # fmt: skip
    """Every question and every change of the studio's data. One object a process, safe to share by threads."""

    def __init__(self, database: Path) -> None:
        super().__init__(database, migrations)

    # -- projects, prompts, pairs --------------------------------------------------------------------------------

    def create_project(self, project: Project) -> Project:
        return self._insert(project)

    def update_project(self, project_id: str, **changes: Any) -> Project:
        """Change the named fields."""
        return self._update(Project, project_id, changes)

    def get_project(self, project_id: str) -> Project:
        return self._get(Project, project_id)

    def list_projects(self) -> list[Project]:
        return self._select(Project)

    def add_image_pair(self, pair: ImagePair) -> ImagePair:
        """Raises StoreError where its prompt pair already has a pair with this index."""
        return self._insert(pair)

    def update_image_pair(self, pair_id: str, **changes: Any) -> ImagePair:
        return self._update(ImagePair, pair_id, changes)

    def list_image_pairs(self, project_id: str, state: str | None = None) -> list[ImagePair]:
        """In the order they were made, without stopped ones.

        `state` is "ready", "failed", "purged", or None for the first two.
        """
        which = "project_id = ? AND stopped = 0 AND coalesce(state = ?, state != 'purged')"
        return self._select(ImagePair, which, project_id, state)

    # -- jobs ----------------------------------------------------------------------------------------------------

    def create_job(self, job: Job) -> Job:
        return self._insert(job)

    def get_job(self, job_id: str) -> Job:
        return self._get(Job, job_id)

    def list_jobs(self, project_id: str | None = None, states: Sequence[JobState] | None = None) -> list[Job]:
        """Oldest first, which is the order of the queue."""
        where, values = "coalesce(project_id = ?, 1)", [project_id]
        if states is not None:
            where += f" AND state IN ({', '.join('?' * len(states))})"
        return self._select(Job, where, *values, *(states or ()))

    def update_job(self, job_id: str, **changes: Any) -> Job:
        """Change the named fields; a final state also sets `finished` and clears the ETA."""
        if changes.get("state") in FINAL_STATES:
            changes = {"finished": time.time(), "eta_seconds": None} | changes
        return self._update(Job, job_id, changes)

    def claim_job(self, job_id: str, pid: int, pid_started: float, *, exclusive: bool = True) -> bool:
        """Take a queued job for the process `pid`: queued becomes running. False where somebody else was first.

        With `exclusive`, also False while another job of this store runs on this machine: jobs share one device. The
        runner claims before it starts the worker, which therefore finds its row running.
        """
        here = f"launcher NOT IN ({', '.join(map(repr, ELSEWHERE))})"
        alone = f"AND NOT EXISTS (SELECT 1 FROM jobs WHERE state IN ('running', 'stopping') AND {here})"
        alone = alone if exclusive else ""
        with self._writing():  # waits for whoever ends a job at this moment, and only then looks at the clock
            now = time.time()
            return self._change(
                "UPDATE jobs SET state = 'running', pid = ?, pid_started = ?, started = ?, heartbeat = ?, "
                f"finished = NULL, eta_seconds = NULL, error = '' WHERE id = ? AND state = 'queued' {alone}",
                (pid, pid_started, now, now, job_id),
            )

    def take_over(self, job_id: str, gone: int | None, pid: int, pid_started: float) -> bool:
        """Put the process `pid` into the row of a job whose process `gone` is no more, and whose work goes on.

        False where the row has moved on meanwhile.
        """
        return self._change(
            "UPDATE jobs SET pid = ?, pid_started = ? WHERE id = ? AND pid IS ? AND state IN ('running', 'stopping')",
            (pid, pid_started, job_id, gone),
        )

    def request_stop(self, job_id: str) -> Job:
        """Raise the stop flag: a queued job is stopped at once, a running one is stopping; others stay as they are."""
        now = time.time()
        self._change(
            "UPDATE jobs SET stop_asked = ?, finished = iif(state = 'queued', ?, NULL), "
            "state = iif(state = 'queued', 'stopped', 'stopping') WHERE id = ? AND state IN ('queued', 'running')",
            (now, now, job_id),
        )
        return self.get_job(job_id)

    def stop_requested(self, job_id: str) -> bool:
        return self.get_job(job_id).state in ("stopping", "stopped")

    def bury_job(self, job_id: str, pid: int | None, error: str) -> bool:
        """End a job whose process is gone: running becomes failed, stopping becomes stopped.

        False where the row has moved on meanwhile: finished by itself, or taken by another process.
        """
        return self._change(
            "UPDATE jobs SET error = iif(state = 'stopping', '', ?), finished = ?, eta_seconds = NULL, "
            "state = iif(state = 'stopping', 'stopped', 'failed') "
            "WHERE id = ? AND pid IS ? AND state IN ('running', 'stopping')",
            (error, time.time(), job_id, pid),
        )

    def requeue_job(self, job_id: str) -> Job:
        """Put a failed or stopped job back into the queue, under its own id. Raises StoreError for any other state."""
        changed = self._change(
            "UPDATE jobs SET state = 'queued', pid = NULL, pid_started = NULL, heartbeat = NULL, eta_seconds = NULL, "
            "message = '', error = '', refused = 0, started = NULL, stop_asked = NULL, finished = NULL "
            "WHERE id = ? AND state IN ('failed', 'stopped')",
            (job_id,),
        )
        job = self.get_job(job_id)
        if not changed:
            raise StoreError(f"Job {job_id} is {job.state}; only a failed or stopped job can be resumed.")
        return job

    # -- checkpoints and evaluations -----------------------------------------------------------------------------

    def add_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint:
        return self._insert(checkpoint)

    def get_checkpoint(self, checkpoint_id: str) -> Checkpoint:
        return self._get(Checkpoint, checkpoint_id)

    def list_checkpoints(self, project_id: str | None = None) -> list[Checkpoint]:
        return self._select(Checkpoint, "coalesce(project_id = ?, 1)", project_id)

    def add_evaluation(self, evaluation: Evaluation) -> Evaluation:
        return self._insert(evaluation)

    def get_evaluation(self, evaluation_id: str) -> Evaluation:
        return self._get(Evaluation, evaluation_id)

    def evaluation_ids(self, project_id: str) -> list[str]:
        """Oldest first; without their reports, which are large."""
        rows = self._db.query("SELECT id FROM evaluations WHERE project_id = ? ORDER BY rowid", (project_id,))
        return [row["id"] for row in rows]

    def last_evaluated_project_id(self) -> str:
        """The project of the newest evaluation, "" where there is none; without reading a report."""
        rows = self._db.query("SELECT project_id FROM evaluations ORDER BY rowid DESC LIMIT 1")
        return next((row["project_id"] for row in rows), "")

    def list_evaluations(self, project_id: str | None = None) -> list[Evaluation]:
        return self._select(Evaluation, "coalesce(project_id = ?, 1)", project_id)
