"""Pairs that may be illegal: stopped, and lifted again. Part of the store.

A stop hides a pair, and every other pair that shows one of its pictures, from all that this store answers: lists,
counts, single pairs, training, archives. The column image_pairs.stopped is kept by triggers of the database. Only the
methods here still see such a pair. What was done, by whom and why is append-only.
"""

from __future__ import annotations

import time
from dataclasses import replace

from studio.database import NotFoundError, RecordFile, StoreError
from studio.records import ImagePair, Job, PairStop

STOPPED = "SELECT id FROM image_pairs WHERE stopped = 1"


class PairStoppedError(NotFoundError):
    """The pair is hidden from everyone until its stop is lifted."""

    def __init__(self, pair_id: str) -> None:
        super().__init__(
            f"The pair {pair_id!r} was stopped, since it may be illegal: it is hidden and kept as it is until the "
            "owner of the studio lifts the stop."
        )


class StopRows(RecordFile):
    """The part of the store that hides what may be illegal."""

    def get_image_pair(self, pair_id: str) -> ImagePair:
        """Raises NotFoundError, and PairStoppedError for a pair that is stopped."""
        pair = self._get(ImagePair, pair_id)
        if self.is_stopped(pair_id):
            raise PairStoppedError(pair_id)
        return pair

    def has_pair(self, project_id: str, pair_id: str) -> bool:
        """Whether the project has this pair, stopped or not."""
        return bool(
            self._value("SELECT count(*) FROM image_pairs WHERE id = ? AND project_id = ?", pair_id, project_id)
        )

    def is_stopped(self, pair_id: str) -> bool:
        return bool(self._value("SELECT count(*) FROM image_pairs WHERE id = ? AND stopped = 1", pair_id))

    def is_stopped_picture(self, sha256: str) -> bool:
        """Whether a stopped pair shows this picture, or it is an edit of one."""
        edits = "SELECT 1 FROM edits JOIN image_pairs ON image_pairs.id = pair_id WHERE stopped = 1 AND image = :name"
        stopped = f"SELECT EXISTS (SELECT 1 FROM stopped_pictures WHERE sha256 = :name UNION ALL {edits}) AS stopped"
        return bool(next(self._db.query(stopped, {"name": sha256}))["stopped"])

    def stopped_pictures(self) -> set[str]:
        """The names of all pictures that are hidden, of all projects."""
        return {row["sha256"] for row in self._db.query("SELECT sha256 FROM stopped_pictures")}

    def add_stop(self, stop: PairStop, seen: str | None = None) -> PairStop:
        """Stop a pair, lift its stop, or book that its files are deleted; the same id told again is one row.

        With a stop, waiting jobs no longer make the pair again. `seen` is the version that was looked at. Raises
        StoreError where the pair has no pictures or was made again meanwhile, and where what is lifted or purged is not
        stopped.
        """
        with self._writing():
            if told := self._select(PairStop, "id = ?", stop.id):
                return told[0]
            pair = self._get(ImagePair, stop.pair_id)
            self._check_stop(stop, pair, seen)
            stop = self._insert(replace(stop, unsafe_sha256=pair.unsafe_image, safe_sha256=pair.safe_image))
            if stop.action == "stop":
                self._withdraw()
            return stop

    def list_stops(self, project_id: str) -> list[PairStop]:
        """All that was stopped, lifted and purged, oldest first: part of the audit log."""
        return self._select(PairStop, "pair_id IN (SELECT id FROM image_pairs WHERE project_id = ?)", project_id)

    def standing_stops(self, project_id: str) -> list[PairStop]:
        """The last word on each pair of the project that is stopped by itself, oldest first."""
        latest = {stop.pair_id: stop for stop in self.list_stops(project_id)}
        return sorted((stop for stop in latest.values() if stop.action != "lift"), key=lambda stop: stop.created)

    def made_places(self, project_id: str) -> set[tuple[str, int]]:
        """(prompt pair's id, index) of each pair that there is, stopped ones included: none is made twice."""
        rows = self._db.query(
            'SELECT prompt_pair_id, "index" AS place FROM image_pairs WHERE project_id = ?', (project_id,)
        )
        return {(row["prompt_pair_id"], row["place"]) for row in rows}

    def _check_stop(self, stop: PairStop, pair: ImagePair, seen: str | None) -> None:
        before = self._select(PairStop, "pair_id = ?", pair.id)
        if before and before[-1].action == "purge":
            raise StoreError(f"The files of the pair {pair.id!r} are deleted: it stays hidden for good.")
        if stop.action != "stop":
            if not before or before[-1].action == "lift":
                raise StoreError(f"The pair {pair.id!r} is not stopped itself, so there is nothing to {stop.action}.")
            if not stop.reason.strip():
                raise StoreError(f"To {stop.action} a stop takes a reason, which is kept for good.")
        elif pair.state != "ready":
            raise StoreError(f"The pair {pair.id!r} has no pictures, so there is nothing to stop.")
        elif seen not in (None, pair.version):
            raise StoreError("This pair was made again since you saw it: what you saw is not shown any more.")

    def _withdraw(self) -> None:
        """Take the pairs that are hidden now out of the jobs that wait to make pairs again; one left with none stops.

        Its list stays: without one it would, when it is resumed, make missing pairs.
        """
        hidden = {row["id"] for row in self._db.query(STOPPED)}
        for job in self._select(Job, "state = 'queued' AND kind = 'pairs'"):
            redo = job.config.get("redo", [])
            kept = [pair_id for pair_id in redo if pair_id not in hidden]
            if redo and not kept:
                self._update(Job, job.id, {"state": "stopped", "finished": time.time()})
            elif kept != redo:
                self._update(Job, job.id, {"config": {**job.config, "redo": kept}})
