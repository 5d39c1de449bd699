"""Verdicts on image pairs, and which of them counts. Part of the store.

Verdicts are append-only. The one that counts lies beside its pair (image_pairs.decision, decision_id, by_detector):
a trigger of the database keeps it true with every row, so that counts and lists of 100,000 pairs are plain SQL.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from studio.database import StoreError
from studio.records import ImagePair, PairCounts, Verdict
from studio.stop_rows import PairStoppedError, StopRows

DETECTOR = "detector"  # the reviewer's name of verdicts that the project's detector gave


class PairChangedError(StoreError):
    """The pictures were made again after the reviewer saw them."""


class VerdictRows(StopRows):
    """The part of the store that people's decisions fill."""

    def add_verdict(self, verdict: Verdict, seen: str | None = None) -> Verdict:
        """Append a decision; `supersedes` is filled with the reviewer's standing verdict on the pair, if there is one.

        An "undo" takes back the verdict it supersedes, after which the reviewer's earlier one, if any, stands again.
        A verdict that comes with an id may be told again: the same id gives one row. `seen` is the version of the
        pair (`ImagePair.version`) that was judged. Raises StoreError where there is nothing to undo, where the id
        belongs to another verdict, PairChangedError where the pair is no longer the one that was seen, and
        PairStoppedError where it is hidden from everyone.
        """
        with self._writing():
            if told := self._select(Verdict, "id = ?", verdict.id):
                return _the_same(told[0], verdict)
            if self.is_stopped(verdict.pair_id):
                raise PairStoppedError(verdict.pair_id)
            if seen is not None and self._get(ImagePair, verdict.pair_id).version != seen:
                raise PairChangedError("This pair was made again since you saw it. Look at its new pictures first.")
            mine = [v for v in self.standing_verdicts(verdict.pair_id) if v.reviewer == verdict.reviewer]
            if verdict.verdict == "undo":
                undone = [v for v in mine if verdict.supersedes in (None, v.id)]
                if not undone:
                    what = verdict.supersedes or f"pair {verdict.pair_id}"
                    raise StoreError(f"{verdict.reviewer} has no standing verdict on {what} to undo.")
                verdict = replace(verdict, supersedes=undone[-1].id)
            elif verdict.supersedes is None and mine:
                verdict = replace(verdict, supersedes=mine[-1].id)
            return self._insert(verdict)

    def reset_verdicts(self, pair_id: str, reason: str) -> list[Verdict]:
        """Make a pair undecided again: an undo row, in its reviewer's name, for each verdict that stands."""
        with self._writing():
            return [
                self.add_verdict(Verdict("", pair_id, one.reviewer, "undo", reason, supersedes=one.id))
                for one in self.standing_verdicts(pair_id)
            ]

    def standing_verdicts(self, pair_id: str) -> list[Verdict]:
        """A pair's verdicts that were not undone, of all reviewers, oldest first."""
        undone = "SELECT 1 FROM verdicts AS undo WHERE undo.supersedes = verdicts.id AND undo.verdict = 'undo'"
        return self._select(Verdict, f"pair_id = ? AND verdict != 'undo' AND NOT EXISTS ({undone})", pair_id)

    def list_verdicts(self, project_id: str) -> list[Verdict]:
        """The whole history, undone rows and undos included, oldest first: the audit log."""
        return self._select(Verdict, "pair_id IN (SELECT id FROM image_pairs WHERE project_id = ?)", project_id)

    def current_verdicts(self, project_id: str) -> dict[str, Verdict]:
        """The verdict that counts for each pair id; pairs without one, and stopped ones, are absent.

        Of one reviewer the latest verdict that was not undone counts. Between reviewers a person's decision outranks
        the detector's, a decision outranks a skip, and among equals the latest counts.
        """
        deciding = "SELECT decision_id FROM image_pairs WHERE project_id = ? AND stopped = 0"
        counting = self._select(Verdict, f"id IN ({deciding})", project_id)
        return {verdict.pair_id: verdict for verdict in counting}

    def accepted_pairs(self, project_id: str) -> list[ImagePair]:
        """The ready pairs whose current verdict is "accept", in the order they were made."""
        accepted = "project_id = ? AND state = 'ready' AND decision = 'accept' AND stopped = 0"
        return self._select(ImagePair, accepted, project_id)

    def pair_counts(self, project_id: str) -> PairCounts:
        """How many pairs are wanted, made, and decided on."""
        wanted = self._value("SELECT coalesce(sum(count), 0) FROM prompt_pairs WHERE project_id = ?", project_id)
        groups = self._grouped(project_id)
        stopped = self._grouped(project_id, "AND stopped = 1")
        groups.subtract(stopped)

        def ready(decision: str) -> int:
            return groups["ready", decision, False] + groups["ready", decision, True]

        return PairCounts(
            wanted=wanted,
            ready=sum(number for (state, *_), number in groups.items() if state == "ready"),
            failed=sum(number for (state, *_), number in groups.items() if state == "failed"),
            accepted=ready("accept"),
            rejected=ready("reject"),
            skipped=ready("skip"),
            by_detector=groups["ready", "accept", True] + groups["ready", "reject", True],
            stopped=stopped.total(),
        )

    def _grouped(self, project_id: str, which: str = "") -> Counter[tuple[str, str, bool]]:
        """How many pairs there are by state, decision and whether the detector alone took it; along an index."""
        sql = (
            f"SELECT state, decision, by_detector, count(*) AS number FROM image_pairs WHERE project_id = ? {which} "
            "GROUP BY state, decision, by_detector"
        )
        rows = self._db.query(sql, (project_id,))
        return Counter({(row["state"], row["decision"], bool(row["by_detector"])): row["number"] for row in rows})


def _the_same(told: Verdict, again: Verdict) -> Verdict:
    """The stored row of a verdict that is told a second time, say after an answer that was lost on its way."""
    if (told.pair_id, told.reviewer, told.verdict) != (again.pair_id, again.reviewer, again.verdict):
        raise StoreError(
            f"The id {told.id} belongs to {told.reviewer}'s {told.verdict!r} on pair {told.pair_id}; "
            "a new decision needs an id of its own."
        )
    return told
