"""What making pairs asks of the store, and how pairs are made again: each as one change. Part of the store.

The configuration of a job that makes pairs again names those still to be made (`redo`), its result those that are
settled: what is done moves from the one to the other together with the pair's row, so a killed job never does it twice.
"""

from __future__ import annotations

from typing import Any

from studio.records import ImagePair, Job
from studio.verdict_rows import VerdictRows

MADE_AGAIN = "the pair was made again"


class MakingRows(VerdictRows):
    """The part of the store that pairs jobs fill."""

    def missing_pairs(self, project_id: str) -> int:
        """How many pairs the prompts ask for that were neither made nor have failed."""
        made = (
            "SELECT count(*) FROM image_pairs WHERE prompt_pair_id = prompt_pairs.id "
            'AND image_pairs."index" < prompt_pairs.count'
        )
        sql = f"SELECT coalesce(sum(count - ({made})), 0) FROM prompt_pairs WHERE project_id = ?"
        return int(self._value(sql, project_id))

    def newest_pairs(self, project_id: str, state: str, limit: int) -> list[ImagePair]:
        """The pairs that were made (state "ready") or that failed ("failed") last, also again, the newest first."""
        shown = "project_id = ? AND state = ? AND stopped = 0"
        newest = f"SELECT id FROM image_pairs WHERE {shown} ORDER BY created DESC LIMIT ?"
        pairs = self._select(ImagePair, f"id IN ({newest})", project_id, state, limit)
        return sorted(pairs, key=lambda pair: pair.created, reverse=True)

    def pairs_settled(self, project_id: str, since: float, until: float) -> int:
        """How many pairs were made, or failed, between two moments."""
        sql = "SELECT count(*) FROM image_pairs WHERE project_id = ? AND created BETWEEN ? AND ?"
        return int(self._value(sql, project_id, since, until))

    def begin_remake(self, job_id: str) -> Job:
        """Turn the job's `retry_failed` into the failed pairs of now, added to its `redo`, and open its account.

        Pairs that were stopped meanwhile are left out.
        """
        with self._writing():
            job = self._get(Job, job_id)
            redo = [pair_id for pair_id in job.config.get("redo", []) if not self.is_stopped(pair_id)]
            if job.config.get("retry_failed"):
                failed = self._select(ImagePair, "project_id = ? AND state = 'failed' AND stopped = 0", job.project_id)
                redo = list(dict.fromkeys([*redo, *(pair.id for pair in failed)]))
            config = {**job.config, "redo": redo, "retry_failed": False}
            return self._update(
                Job, job_id, {"config": config, "result": {"remade": [], "not_remade": {}} | job.result}
            )

    def settle_remake(self, job_id: str, pair_id: str, *, made: bool, tried: int, **changes: Any) -> Job:
        """Change the pair's row and book it as settled by the job, all or nothing.

        `tried` is how many tries the job spent on it. A pair that was made is undecided again: an undo row takes back
        each standing verdict on its old pictures. One that was not keeps its verdicts, and what `changes` leaves alone.
        One that was stopped meanwhile stays as it is.
        """
        with self._writing():
            if self.is_stopped(pair_id):
                made, changes = False, {}
            if changes:
                self._update(ImagePair, pair_id, changes)
            if made:
                self.reset_verdicts(pair_id, MADE_AGAIN)
            job = self._get(Job, job_id)
            remade, not_remade = list(job.result["remade"]), dict(job.result["not_remade"])
            if made:
                remade.append(pair_id)
            else:
                not_remade[pair_id] = tried
            config = {**job.config, "redo": [waiting for waiting in job.config["redo"] if waiting != pair_id]}
            result = {**job.result, "remade": remade, "not_remade": not_remade}
            return self._update(Job, job_id, {"config": config, "result": result})
