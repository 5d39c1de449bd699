"""Verdicts on image pairs, and which of them counts. Part of the store.

Verdicts are append-only. The one that counts lies beside its pair (image_pairs.decision, decision_id, decided_by,
by_detector), and what the pair waits for (waits): triggers of the database keep them true with every row, and with them
the number of pairs in each such state, so that neither counts nor lists look through 100,000 pairs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from studio.database import StoreError
from studio.records import CONFLICT, SECOND, ImagePair, PairCounts, Verdict
from studio.stop_rows import PairStoppedError, StopRows

DETECTOR = "detector"  # the reviewer's name of verdicts that the project's detector gave
# Of a row of verdicts: that it was not undone, and is no undo.
STANDS = (
    "verdict != 'undo' AND NOT EXISTS "
    "(SELECT 1 FROM verdicts AS undo WHERE undo.supersedes = verdicts.id AND undo.verdict = 'undo')"
)
# Whether a verdict on this row of image_pairs is one of two reviews and its reviewer cannot know the other.
IS_BLIND = f"reviews = 2 AND waits != '{CONFLICT}' AND (decision IN ('', 'skip') OR by_detector)"


class PairChangedError(StoreError):
    """The pictures were made again after the reviewer saw them."""


class VerdictRows(StopRows):
    """The part of the store that people's decisions fill."""

    def add_verdict(self, verdict: Verdict, seen: str | None = None) -> Verdict:
        """Append a decision; `supersedes` is filled with the reviewer's standing verdict on the pair, if there is one.

        An "undo" takes back the verdict it supersedes, after which the reviewer's earlier one, if any, stands again.
        A verdict that comes with an id may be told again: the same id gives one row. `seen` is the version of the
        pair (`ImagePair.version`) that was judged. Raises StoreError where there is nothing to undo, where the id
        belongs to another verdict, or where there is no disagreement to settle, PairChangedError where the pair is no
        longer the one that was seen, and PairStoppedError where it is hidden from everyone.
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
                return self._insert(replace(verdict, supersedes=undone[-1].id))
            mine = [v for v in mine if v.settles == verdict.settles]
            if verdict.supersedes is None and mine:
                verdict = replace(verdict, supersedes=mine[-1].id)
            if verdict.settles:
                self._refuse_to_settle(verdict, again=bool(mine))
            blind = f"SELECT coalesce(max({IS_BLIND}), 0) FROM image_pairs WHERE id = ?"
            return self._insert(replace(verdict, blind=bool(self._value(blind, verdict.pair_id))))

    def _refuse_to_settle(self, verdict: Verdict, *, again: bool) -> None:
        """Only a disagreement is settled, by a decision, which may be changed. Raises StoreError."""
        waits = self._value("SELECT max(waits) FROM image_pairs WHERE id = ?", verdict.pair_id)
        if verdict.verdict == "skip" or (waits != CONFLICT and not again):
            raise StoreError(
                f"Pair {verdict.pair_id} cannot be settled by {verdict.verdict!r}: that is for accepting or "
                "rejecting a pair on which two people disagree. Look at it again; somebody may have changed their mind."
            )

    def reset_verdicts(self, pair_id: str, reason: str) -> list[Verdict]:
        """Make a pair undecided again: an undo row, in its reviewer's name, for each verdict that stands."""
        with self._writing():
            return [
                self.add_verdict(Verdict("", pair_id, one.reviewer, "undo", reason, supersedes=one.id))
                for one in self.standing_verdicts(pair_id)
            ]

    def standing_verdicts(self, pair_id: str) -> list[Verdict]:
        """A pair's verdicts that were not undone, of all reviewers, oldest first."""
        return self._select(Verdict, f"pair_id = ? AND {STANDS}", pair_id)

    def list_verdicts(self, project_id: str) -> list[Verdict]:
        """The whole history, undone rows and undos included, oldest first: the audit log."""
        return self._select(Verdict, "pair_id IN (SELECT id FROM image_pairs WHERE project_id = ?)", project_id)

    def current_verdicts(self, project_id: str) -> dict[str, Verdict]:
        """The verdict that counts for each pair id; pairs without one, and stopped ones, are absent.

        Of one reviewer the latest verdict that was not undone counts. Between reviewers a person's decision outranks
        the detector's, a decision outranks a skip, and among equals the latest counts. On a pair that two people must
        review, what they agree on counts; the owner's word settles a disagreement, and before that none counts.
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
        everything = list(self._db.query("SELECT * FROM pair_tallies WHERE project_id = ?", (project_id,)))
        groups = [group for group in everything if not group["stopped"]]
        ready = [group for group in groups if group["state"] == "ready"]

        def of(column: str, *values: Any) -> int:
            return sum(group["number"] for group in ready if group[column] in values)

        decided = [group for group in ready if group["decision"] in ("accept", "reject")]
        return PairCounts(
            wanted=wanted,
            ready=sum(group["number"] for group in ready),
            failed=sum(group["number"] for group in groups if group["state"] == "failed"),
            accepted=of("decision", "accept"),
            rejected=of("decision", "reject"),
            skipped=of("decision", "skip"),
            by_detector=sum(group["number"] for group in decided if group["by_detector"]),
            stopped=sum(group["number"] for group in everything if group["stopped"]),
            second=sum(group["number"] for group in ready if group["waits"].startswith(SECOND)),
            conflicts=of("waits", CONFLICT),
        )


def _the_same(told: Verdict, again: Verdict) -> Verdict:
    """The stored row of a verdict that is told a second time, say after an answer that was lost on its way."""
    if (told.pair_id, told.reviewer, told.verdict) != (again.pair_id, again.reviewer, again.verdict):
        raise StoreError(
            f"The id {told.id} belongs to {told.reviewer}'s {told.verdict!r} on pair {told.pair_id}; "
            "a new decision needs an id of its own."
        )
    return told
