"""All SQL of the studio: records in, records out.

Records come in with an empty `id` and `created`, and go out with both filled. What is refused raises `StoreError`.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio.attempt_rows import AttemptRows
from studio.database import NotFoundError, StoreError
from studio.migrations import migrations
from studio.project_rows import ProjectRows
from studio.records import (
    FINAL_STATES,
    Checkpoint,
    Evaluation,
    ImagePair,
    Job,
    JobState,
    PairCounts,
    Project,
    PromptPair,
    Verdict,
)

__all__ = ["DETECTOR", "NotFoundError", "Store", "StoreError"]

DETECTOR = "detector"  # the reviewer's name of verdicts that the project's detector gave


class Store(AttemptRows, ProjectRows):
    """Every question and every change of the studio's data. One object a process, safe to share by threads."""

    def __init__(self, database: Path) -> None:
        super().__init__(database, migrations)

    # -- projects, prompts, pairs --------------------------------------------------------------------------------

    def create_project(self, project: Project) -> Project:
        return self._insert(project)

    def get_project(self, project_id: str) -> Project:
        return self._get(Project, project_id)

    def list_projects(self) -> list[Project]:
        return self._select(Project)

    def add_prompt_pairs(self, pairs: Iterable[PromptPair]) -> list[PromptPair]:
        """All of them or, on an error, none."""
        with self._writing():
            return [self._insert(pair) for pair in pairs]

    def list_prompt_pairs(self, project_id: str) -> list[PromptPair]:
        return self._select(PromptPair, "project_id = ?", project_id)

    def add_image_pair(self, pair: ImagePair) -> ImagePair:
        """Raises StoreError where its prompt pair already has a pair with this index."""
        return self._insert(pair)

    def update_image_pair(self, pair_id: str, **changes: Any) -> ImagePair:
        return self._update(ImagePair, pair_id, changes)

    def get_image_pair(self, pair_id: str) -> ImagePair:
        return self._get(ImagePair, pair_id)

    def list_image_pairs(self, project_id: str, state: str | None = None) -> list[ImagePair]:
        """In the order they were made; `state` is "ready", "failed" or None for both."""
        return self._select(ImagePair, "project_id = ? AND coalesce(state = ?, 1)", project_id, state)

    def pair_counts(self, project_id: str) -> PairCounts:
        """How many pairs are wanted, made, and decided on."""
        wanted = self._value("SELECT coalesce(sum(count), 0) FROM prompt_pairs WHERE project_id = ?", project_id)
        ready = {pair.id for pair in self.list_image_pairs(project_id, "ready")}
        current = self.current_verdicts(project_id)
        verdicts = Counter(current[pair_id].verdict for pair_id in ready & current.keys())
        return PairCounts(
            wanted=wanted,
            ready=len(ready),
            failed=len(self.list_image_pairs(project_id, "failed")),
            accepted=verdicts["accept"],
            rejected=verdicts["reject"],
            skipped=verdicts["skip"],
        )

    # -- verdicts ------------------------------------------------------------------------------------------------

    def add_verdict(self, verdict: Verdict) -> Verdict:
        """Append a decision; `supersedes` is filled with the reviewer's standing verdict on the pair, if there is one.

        An "undo" takes back the verdict it supersedes, after which the reviewer's earlier one, if any, stands again.
        Raises StoreError where there is nothing to undo.
        """
        with self._writing():
            mine = [v for v in self._standing("pair_id = ?", verdict.pair_id) if v.reviewer == verdict.reviewer]
            if verdict.verdict == "undo":
                undone = [v for v in mine if verdict.supersedes in (None, v.id)]
                if not undone:
                    what = verdict.supersedes or f"pair {verdict.pair_id}"
                    raise StoreError(f"{verdict.reviewer} has no standing verdict on {what} to undo.")
                verdict = replace(verdict, supersedes=undone[-1].id)
            elif verdict.supersedes is None and mine:
                verdict = replace(verdict, supersedes=mine[-1].id)
            return self._insert(verdict)

    def list_verdicts(self, project_id: str) -> list[Verdict]:
        """The whole history, undone rows and undos included, oldest first: the audit log."""
        return self._select(Verdict, "pair_id IN (SELECT id FROM image_pairs WHERE project_id = ?)", project_id)

    def current_verdicts(self, project_id: str) -> dict[str, Verdict]:
        """The verdict that counts for each pair id; pairs without one are absent.

        Of one reviewer the latest verdict that was not undone counts. Between reviewers a person's decision outranks
        the detector's, a decision outranks a skip, and among equals the latest counts.
        """
        latest: dict[tuple[str, str], Verdict] = {}
        for verdict in self._standing("pair_id IN (SELECT id FROM image_pairs WHERE project_id = ?)", project_id):
            latest.pop((verdict.pair_id, verdict.reviewer), None)  # so that the order stays that of time
            latest[verdict.pair_id, verdict.reviewer] = verdict
        current: dict[str, Verdict] = {}
        for (pair_id, _), verdict in latest.items():
            if pair_id not in current or _rank(verdict) >= _rank(current[pair_id]):
                current[pair_id] = verdict
        return current

    def accepted_pairs(self, project_id: str) -> list[ImagePair]:
        """The ready pairs whose current verdict is "accept", in the order they were made."""
        current = self.current_verdicts(project_id)
        ready = self.list_image_pairs(project_id, "ready")
        return [pair for pair in ready if pair.id in current and current[pair.id].verdict == "accept"]

    def _standing(self, where: str, *values: Any) -> list[Verdict]:
        undone = "SELECT supersedes FROM verdicts WHERE verdict = 'undo'"
        return self._select(Verdict, f"{where} AND verdict != 'undo' AND id NOT IN ({undone})", *values)

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

        With `exclusive`, also False while another job of this store runs: jobs share one device. The runner claims
        before it starts the worker, which therefore finds its row running.
        """
        alone = "AND NOT EXISTS (SELECT 1 FROM jobs WHERE state IN ('running', 'stopping'))" if exclusive else ""
        now = time.time()
        return self._change(
            "UPDATE jobs SET state = 'running', pid = ?, pid_started = ?, started = ?, heartbeat = ?, finished = NULL, "
            f"eta_seconds = NULL, error = '' WHERE id = ? AND state = 'queued' {alone}",
            (pid, pid_started, now, now, job_id),
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
            "message = '', error = '', started = NULL, stop_asked = NULL, finished = NULL "
            "WHERE id = ? AND state IN ('failed', 'stopped')",
            (job_id,),
        )
        job = self.get_job(job_id)
        if not changed:
            raise StoreError(f"Job {job_id} is {job.state}; only a failed or stopped job can be resumed.")
        return job

    def add_job_metrics(self, job_id: str, step: int, values: Mapping[str, float]) -> None:
        """Keep the numbers of one step; a step reported again (after a resume) replaces its numbers."""
        rows = [(job_id, step, name, float(value)) for name, value in values.items()]
        sql = "INSERT OR REPLACE INTO job_metrics (job_id, step, name, value) VALUES (?, ?, ?, ?)"
        with self._writing() as db:
            db.conn.executemany(sql, rows)

    def job_metrics(self, job_id: str) -> list[dict[str, float]]:
        """One dictionary a step, in order: {"step": 1, "loss": 0.69, …}. A value that is not a number is NaN."""
        steps: dict[int, dict[str, float]] = {}
        sql = "SELECT step, name, value FROM job_metrics WHERE job_id = ? ORDER BY step, name"
        for row in self._db.query(sql, (job_id,)):
            value = math.nan if row["value"] is None else row["value"]  # SQLite keeps NaN as NULL
            steps.setdefault(row["step"], {"step": row["step"]})[row["name"]] = value
        return list(steps.values())

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

    def list_evaluations(self, project_id: str | None = None) -> list[Evaluation]:
        return self._select(Evaluation, "coalesce(project_id = ?, 1)", project_id)


def _rank(verdict: Verdict) -> tuple[bool, bool]:
    return verdict.verdict != "skip", verdict.reviewer != DETECTOR
