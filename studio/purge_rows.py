"""What is deleted of a project's pictures, and the book of it. Part of the store; the files are `studio.purging`'s.

A purged pair keeps its row, its decisions and the names of its pictures; its state says that they are gone. Rows of
other pictures (samples, attempts, attacks) name a placeholder from then on, and the book names what they named. Pairs
that were stopped since they may be illegal, and their pictures, are never part of a purge: see `studio.stopping`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from studio.edit_rows import EditRows
from studio.records import ImagePair, Purge, PurgeScope

# Which ready pairs a scope means. A pair that two people disagree on is undecided.
PAIRS: dict[PurgeScope, str] = {
    "undecided": "decision IN ('', 'skip', 'reject')",
    "pairs": "1",
    "everything": "1",
}
OTHERS = {  # tables with pictures of other kinds, and the rows of one project
    "samples": "job_id IN (SELECT id FROM jobs WHERE project_id = :project)",
    "attempts": "project_id = :project",
    "attack_runs": "project_id = :project",
}
LIVE = ("running", "stopping", "queued")
_AMONG = "(SELECT value FROM json_each(:names))"


class PurgeRows(EditRows):
    """The part of the store that knows what may be deleted."""

    def pairs_to_purge(self, project_id: str, scope: PurgeScope, before: float | None = None) -> list[ImagePair]:
        """The pairs that a purge would take; with `before`, those last made and decided on before that moment."""
        where = f"project_id = ? AND state = 'ready' AND stopped = 0 AND {PAIRS[scope]}"
        if before is None:
            return self._select(ImagePair, where, project_id)
        decided = "(SELECT coalesce(max(created), 0) FROM verdicts WHERE pair_id = image_pairs.id)"
        return self._select(ImagePair, f"{where} AND max(created, {decided}) < ?", project_id, before)

    def other_pictures(self, project_id: str) -> set[str]:
        """The names of the project's pictures that are no pair's."""
        found: set[str] = set()
        for table, own in OTHERS.items():
            sql = f"SELECT DISTINCT image FROM {table} WHERE image != '' AND {own}"
            found |= {row["image"] for row in self._db.query(sql, {"project": project_id})}
        return found

    def is_busy(self, project_id: str) -> bool:
        """Whether a job of the project runs or waits: it may need the pictures."""
        marks = ", ".join("?" * len(LIVE))
        sql = f"SELECT count(*) FROM jobs WHERE project_id = ? AND state IN ({marks})"
        return bool(self._value(sql, project_id, *LIVE))

    def book_purge(
        self, purge: Purge, pairs: Sequence[ImagePair], others: Iterable[str] = (), placeholder: str = ""
    ) -> Purge:
        """Mark these pairs as purged and let rows of the `others` name the placeholder, all or nothing.

        Pairs that were made again, decided on or stopped meanwhile are left as they are.
        """
        others = set(others) - {placeholder} - self.stopped_pictures()
        with self._writing() as db:
            names, count = set(others), 0
            for pair in pairs:
                changed = self._change(
                    "UPDATE image_pairs SET state = 'purged' WHERE id = ? AND state = 'ready' AND stopped = 0 "
                    f"AND unsafe_image = ? AND safe_image = ? AND {PAIRS[purge.scope]}",
                    (pair.id, pair.unsafe_image, pair.safe_image),
                )
                if changed:
                    count += 1
                    names |= {pair.unsafe_image, pair.safe_image, *self.drop_edits(pair.id)} - {""}
            for table, own in OTHERS.items():
                sql = f"UPDATE {table} SET image = :placeholder WHERE {own} AND image IN {_AMONG}"
                db.execute(sql, {"placeholder": placeholder, "project": purge.project_id, **_listed(others)})
            booked = self._insert(replace(purge, pairs=count))
            rows = [(booked.id, name) for name in sorted(names)]
            db.conn.executemany("INSERT INTO purged_pictures (purge_id, sha256) VALUES (?, ?)", rows)
            return booked

    def list_purges(self, project_id: str) -> list[Purge]:
        """Oldest first."""
        return self._select(Purge, "project_id = ?", project_id)

    def purged_names(self, purge_id: str = "") -> set[str]:
        """The names of all pictures that were purged, or of those of one purge; some may be in use again."""
        sql = "SELECT DISTINCT sha256 FROM purged_pictures WHERE ? IN ('', purge_id)"
        return {row["sha256"] for row in self._db.query(sql, (purge_id,))}

    def needed_pictures(self, names: Iterable[str], but_pairs: Iterable[str] = (), but_others_of: str = "") -> set[str]:
        """Which of these pictures some row needs, of any project: purged pairs need none, stopped ones all of theirs.

        The rows of the pairs `but_pairs` do not count, nor those of other pictures of the project `but_others_of`.
        """
        values = {**_listed(names), "but": json.dumps(sorted(but_pairs)), "project": but_others_of}
        parts = [
            f"SELECT {side} AS name FROM image_pairs WHERE state != 'purged' AND {side} IN {_AMONG} "
            "AND id NOT IN (SELECT value FROM json_each(:but))"
            for side in ("unsafe_image", "safe_image")
        ]
        parts.append(
            f"SELECT image FROM edits WHERE image IN {_AMONG} AND pair_id NOT IN (SELECT value FROM json_each(:but))"
        )
        parts += [f"SELECT image FROM {table} WHERE image IN {_AMONG} AND NOT {own}" for table, own in OTHERS.items()]
        parts.append(f"SELECT sha256 FROM stopped_pictures WHERE sha256 IN {_AMONG}")
        return {row["name"] for row in self._db.query(" UNION ".join(parts), values)}

    def purged_pairs(self, project_id: str = "") -> list[ImagePair]:
        """Without stopped ones."""
        return self._select(ImagePair, "state = 'purged' AND stopped = 0 AND ? IN ('', project_id)", project_id)


def _listed(names: Iterable[str]) -> dict[str, str]:
    """Any number of names as one value of a statement."""
    return {"names": json.dumps(sorted(names))}
