"""One decision about many pairs: its verdicts are written a few hundred at a time, and taken back together.

So that other reviewers' decisions go in between, no transaction is long; a row of `bulk_actions` says which pairs were
meant, and each verdict names it. Told again with the same id, after a killed server say, an action goes on where it
was. Part of the store.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from studio.database import StoreError
from studio.pair_lists import PairLists
from studio.records import BulkAction, ImagePair, PairQuery, Triage, VerdictValue
from studio.verdict_rows import IS_BLIND, STANDS

CHUNK = 400  # verdicts a transaction: a few hundredths of a second


class BulkRows(PairLists):
    """The part of the store that decides on many pairs at once."""

    def begin_bulk(self, action: BulkAction) -> BulkAction:
        """The action's row, as it is where it was told before. Raises StoreError where its id is another one's."""
        action = replace(action, what=json.loads(json.dumps(action.what)))  # as the row will have it
        with self._writing():
            for told in self._select(BulkAction, "id = ?", action.id):
                if (told.project_id, told.reviewer, told.what) != (action.project_id, action.reviewer, action.what):
                    raise StoreError(f"The id {told.id} belongs to another action: {told.what}. Use a new one.")
                return told
            return self._insert(action)

    def decide_query(self, action: BulkAction, verdict: VerdictValue, reason: str, query: PairQuery) -> int:
        """Give the verdict to all pairs that the query finds; returns to how many. Ends early where it is undone."""
        number = above = 0
        while True:
            with self._writing():
                if self._get(BulkAction, action.id).undone:
                    return number
                found = self.pair_ids(action.project_id, query, above=above, limit=CHUNK)
                number += self._decide(action, verdict, reason, [pair_id for _, pair_id in found])
            if len(found) < CHUNK:
                return number
            above = found[-1][0]

    def decide_pairs(self, action: BulkAction, verdict: VerdictValue, reason: str, pairs: Mapping[str, str]) -> int:
        """The same for these pairs with the versions that were seen, except one that was made again or stopped."""
        ids, number = list(pairs), 0
        for start in range(0, len(ids), CHUNK):
            with self._writing():
                if self._get(BulkAction, action.id).undone:
                    return number
                part = ids[start : start + CHUNK]
                marks = ", ".join("?" * len(part))
                shown = f"project_id = ? AND state = 'ready' AND stopped = 0 AND id IN ({marks})"
                there = self._select(ImagePair, shown, action.project_id, *part)
                same = [pair.id for pair in there if pairs[pair.id] == pair.version]
                number += self._decide(action, verdict, reason, same)
        return number

    def finish_bulk(self, action_id: str) -> BulkAction:
        return self._update(BulkAction, action_id, {"done": True})

    def undo_bulk(self, action_id: str) -> int:
        """Take back what stands of the action's verdicts; returns how many. Nothing where it was taken back before."""
        action = self._update(BulkAction, action_id, {"undone": True})  # first: who still writes stops
        number = 0
        while True:
            with self._writing() as db:
                changed = db.execute(
                    "INSERT INTO verdicts (id, pair_id, reviewer, verdict, reason, revealed, milliseconds, created, "
                    "supersedes, bulk_id) "
                    "SELECT lower(hex(randomblob(6))), pair_id, reviewer, 'undo', '', 0, 0, ?, id, bulk_id "
                    f"FROM verdicts WHERE bulk_id = ? AND {STANDS} LIMIT ?",
                    (time.time(), action.id, CHUNK),
                ).rowcount
            number += changed
            if changed < CHUNK:
                return number

    def get_bulk(self, action_id: str) -> BulkAction:
        return self._get(BulkAction, action_id)

    def list_bulk(self, project_id: str, limit: int = 20) -> list[BulkAction]:
        """The newest first."""
        newest = "SELECT rowid FROM bulk_actions WHERE project_id = ? ORDER BY rowid DESC LIMIT ?"
        return self._select(BulkAction, f"rowid IN ({newest})", project_id, limit)[::-1]

    def bulk_sizes(self, action_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """By action and verdict, to how many pairs it was given; undone ones too."""
        marks = ", ".join("?" * len(action_ids))
        sql = (
            "SELECT bulk_id, verdict, count(*) AS number FROM verdicts "
            f"WHERE bulk_id IN ({marks}) AND verdict != 'undo' GROUP BY bulk_id, verdict"
        )
        sizes: dict[str, dict[str, int]] = {action_id: {} for action_id in action_ids}
        for row in self._db.query(sql, tuple(action_ids)):
            sizes[row["bulk_id"]][row["verdict"]] = row["number"]
        return sizes

    def _decide(self, action: BulkAction, verdict: VerdictValue, reason: str, ids: Sequence[str]) -> int:
        """Write the verdicts on these pairs, but not on one that has the action's verdict already."""
        sql = (
            "INSERT INTO verdicts (id, pair_id, reviewer, verdict, reason, revealed, milliseconds, created, "
            "supersedes, blind, bulk_id) SELECT lower(hex(randomblob(6))), id, ?, ?, ?, 0, 0, ?, "
            "(SELECT id FROM voices WHERE pair_id = image_pairs.id AND reviewer = ? AND NOT settles), "
            f"{IS_BLIND}, ? FROM image_pairs WHERE id IN ({', '.join('?' * len(ids))}) "
            "AND NOT EXISTS (SELECT 1 FROM verdicts WHERE pair_id = image_pairs.id AND bulk_id = ?)"
        )
        values = (action.reviewer, verdict, reason, time.time(), action.reviewer, action.id, *ids, action.id)
        return self._db.execute(sql, values).rowcount


def query_to_json(query: PairQuery) -> dict[str, Any]:
    """What a row keeps of a query."""
    return asdict(query)


def query_from_json(values: Mapping[str, Any]) -> PairQuery:
    triage = values.get("triage")
    return PairQuery(**{**values, "triage": Triage(**triage) if triage else None})
