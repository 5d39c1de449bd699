"""One pair edited at several strengths, and which of the edits becomes its twin. Part of the store.

An edit's picture and latents are files like those of the pair's own twin, so picking one changes the pair's row alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from studio.database import StoreError
from studio.records import Edit, ImagePair, Job
from studio.verdict_rows import PairChangedError, VerdictRows

PICKED = "another strength was picked"


class EditRows(VerdictRows):
    """The part of the store that knows the edits of a pair."""

    def add_edit(self, edit: Edit) -> Edit:
        return self._insert(edit)

    def get_edit(self, edit_id: str) -> Edit:
        """Raises NotFoundError, and PairStoppedError where its pair is stopped."""
        edit = self._get(Edit, edit_id)
        self.get_image_pair(edit.pair_id)
        return edit

    def list_edits(self, job_id: str) -> list[Edit]:
        """In the order of the strip."""
        return sorted(self._select(Edit, "job_id = ?", job_id), key=lambda edit: edit.position)

    def last_strengths(self, pair_id: str) -> Job | None:
        """The newest job that tries strengths on this pair."""
        of_it = "kind = 'strengths' AND json_extract(config, '$.pair') = ?"
        found = self._select(Job, f"rowid = (SELECT max(rowid) FROM jobs WHERE {of_it})", pair_id)
        return found[0] if found else None

    def pick_edit(self, edit_id: str) -> ImagePair:
        """Make an edit the pair's twin; the pair is then undecided again. The one that it has is left as it is.

        Raises PairChangedError where the pair has another unsafe picture by now, and StoreError where its pictures are
        deleted or a job makes it again.
        """
        with self._writing():
            edit = self.get_edit(edit_id)
            pair = self._get(ImagePair, edit.pair_id)
            if pair.state != "ready":
                raise StoreError(f"The pictures of pair {pair.id} are not there any more, so none can be picked.")
            if pair.unsafe_image != edit.unsafe_image:
                raise PairChangedError("This pair was made again since these edits. Try its strengths again.")
            again = "SELECT count(*) FROM jobs, json_each(jobs.config, '$.redo') AS again WHERE again.value = ? "
            if self._value(f"{again} AND jobs.state IN ('queued', 'running', 'stopping')", pair.id):
                raise StoreError("This pair is being made again. Wait for that, or stop it, before you pick an edit.")
            if pair.safe_image == edit.image:
                return pair
            self.reset_verdicts(pair.id, PICKED)
            changes = {"safe_image": edit.image, "strength": edit.strength, "safe_score": edit.score}
            return self._update(ImagePair, pair.id, {**changes, "distance": edit.distance, "created": time.time()})

    def edited_pictures(self, pair_ids: Sequence[str]) -> set[str]:
        """The names of the pictures that are edits of these pairs."""
        found: set[str] = set()
        for start in range(0, len(pair_ids), 1000):
            part = pair_ids[start : start + 1000]
            sql = f"SELECT image FROM edits WHERE pair_id IN ({', '.join('?' * len(part))})"
            found |= {row["image"] for row in self._db.query(sql, tuple(part))}
        return found

    def drop_edits(self, pair_id: str) -> set[str]:
        """Forget a pair's edits, whose files are to be deleted; returns the names of their pictures."""
        with self._writing() as db:
            names = self.edited_pictures([pair_id])
            db.execute("DELETE FROM edits WHERE pair_id = ?", (pair_id,))
            return names
