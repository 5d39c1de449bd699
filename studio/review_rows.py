"""What the store tells of the reviewers: opinions given blindly, open disagreements, everybody's work. Part of it."""

from __future__ import annotations

from collections.abc import Sequence

from studio.database import RecordFile
from studio.records import CONFLICT, ReviewerWork, SecondReviews, Verdict
from studio.verdict_rows import STANDS


class ReviewRows(RecordFile):
    """The part of the store that the owner of a project looks into."""

    def opinions(self, project_id: str) -> dict[str, dict[str, str]]:
        """By pair and reviewer, what was decided without knowing another's verdict on that pair, one by one."""
        sql = (
            "SELECT pair_id, reviewer, verdict FROM verdicts WHERE blind = 1 AND bulk_id IS NULL AND verdict IN "
            f"('accept', 'reject') AND {STANDS} AND reviewer != 'detector' AND pair_id IN "
            "(SELECT id FROM image_pairs WHERE project_id = ? AND reviews = 2 AND stopped = 0) ORDER BY rowid"
        )
        said: dict[str, dict[str, str]] = {}
        for row in self._db.query(sql, (project_id,)):
            said.setdefault(row["pair_id"], {})[row["reviewer"]] = row["verdict"]
        return said

    def second_reviews(self, project_id: str) -> SecondReviews:
        """How the second reviews stand."""
        counts = (
            "count(*) AS chosen, sum(waits LIKE 'second:%') AS waiting, "
            f"sum(waits = '{CONFLICT}') AS open, sum(decision IN ('accept', 'reject') AND NOT by_detector) AS decided, "
            "(SELECT count(DISTINCT pair_id) FROM verdicts INDEXED BY verdicts_settling "
            f"WHERE settles = 1 AND {STANDS} AND pair_id IN ({{where}})) AS settled"
        )
        where = "FROM image_pairs WHERE project_id = :project AND reviews = 2 AND state = 'ready' AND stopped = 0"
        counts = counts.format(where=f"SELECT id {where}")
        row = next(self._db.query(f"SELECT {counts} {where}", {"project": project_id}))
        return SecondReviews(**{name: value or 0 for name, value in row.items()})

    def voices(self, pair_ids: Sequence[str]) -> dict[str, list[Verdict]]:
        """By pair, the latest standing verdict of each person, oldest first; without the owner's settling ones."""
        marks = ", ".join("?" * len(pair_ids))
        latest = f"SELECT id FROM voices WHERE pair_id IN ({marks}) AND reviewer != 'detector' AND NOT settles"
        found: dict[str, list[Verdict]] = {pair_id: [] for pair_id in pair_ids}
        for verdict in self._select(Verdict, f"id IN ({latest})", *pair_ids):
            found[verdict.pair_id].append(verdict)
        return found

    def reviewer_work(self, project_id: str) -> list[ReviewerWork]:
        """What each person has done, by name: every verdict counts, also one that was changed or taken back later.

        The median time is of pairs accepted and rejected one by one whose time was measured: skips have no part in it.
        """
        own = (
            "SELECT * FROM verdicts WHERE verdict != 'undo' AND reviewer != 'detector' AND pair_id IN "
            "(SELECT id FROM image_pairs WHERE project_id = :project)"
        )
        sql = f"""
            WITH own AS ({own}), timed AS (
                SELECT reviewer, milliseconds, row_number() OVER (PARTITION BY reviewer ORDER BY milliseconds) AS place,
                    count(*) OVER (PARTITION BY reviewer) AS number
                FROM own WHERE milliseconds > 0 AND bulk_id IS NULL AND verdict IN ('accept', 'reject')
            ), middle AS (
                SELECT reviewer, avg(milliseconds) AS median FROM timed
                WHERE place IN ((number + 1) / 2, (number + 2) / 2) GROUP BY reviewer
            )
            SELECT reviewer, sum(verdict = 'accept') AS accepted, sum(verdict = 'reject') AS rejected,
                sum(verdict = 'skip') AS skipped, sum(bulk_id IS NOT NULL) AS in_bulk, sum(settles) AS settled,
                sum(revealed) AS revealed, (SELECT median FROM middle WHERE middle.reviewer = own.reviewer) AS median
            FROM own GROUP BY reviewer ORDER BY reviewer"""
        return [
            ReviewerWork(
                row["reviewer"], row["accepted"], row["rejected"], row["skipped"], row["in_bulk"], row["settled"],
                row["revealed"], None if row["median"] is None else row["median"] / 1000,
            )
            for row in self._db.query(sql, {"project": project_id})
        ]  # fmt: skip
