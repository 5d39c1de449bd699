"""Pages of a project's image pairs, filtered and sorted, and which of them are to be made again. Part of the store.

Each filter is a handful of (state, decision, by whom) groups, and each sort has an index that begins with these:
a page is the best rows of each group, merged. It costs the same on the first page and after 100,000 pairs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import product
from typing import Any

from studio.records import CuratedPair, ImagePair, Job, PairQuery, PromptPair, Verdict
from studio.stop_rows import STOPPED, StopRows

ANY = ("", "skip", "accept", "reject")
# Filter to the state, the decisions, and whether the detector alone decided (0, 1).
FILTERS: dict[str, tuple[str, tuple[str, ...], tuple[int, ...]]] = {
    "undecided": ("ready", ("", "skip"), (0, 1)),
    "accepted": ("ready", ("accept",), (0, 1)),
    "rejected": ("ready", ("reject",), (0, 1)),
    "skipped": ("ready", ("skip",), (0, 1)),
    "detector": ("ready", ("accept", "reject"), (1,)),
    "all": ("ready", ANY, (0, 1)),
    "failed": ("failed", ANY, (0, 1)),
}
# Sort to its key, and whether the largest comes first: the doubtful pairs are in front.
SORTS: dict[str, tuple[str, bool]] = {
    "made": ("rowid", False),
    "unsafe": ("unsafe_score", False),
    "safe": ("safe_score", True),
    "distance": ("coalesce(distance, -1)", True),
}
BEING_MADE_AGAIN = (
    "SELECT again.value FROM jobs, json_each(jobs.config, '$.redo') AS again WHERE jobs.project_id = :project "
    "AND jobs.kind = 'pairs' AND jobs.state IN ('queued', 'running', 'stopping') "
    f"AND again.value NOT IN ({STOPPED})"
)


class PairLists(StopRows):
    """The part of the store that curation reads."""

    def page_of_pairs(
        self, project_id: str, query: PairQuery, *, after: str = "", before: str = "", limit: int = 50
    ) -> list[CuratedPair]:
        """At most `limit` pairs in the query's order, those after or before the pair with this id.

        That pair need not match the query itself: it may just have been decided. "undecided" leaves out pairs that
        are being made again. Raises NotFoundError where the pair of `after` or `before` is not there.
        """
        sql, values = self._page(project_id, query, after or before, bool(before), limit)
        ids = [row["id"] for row in self._db.query(sql, values)]
        return self._curated(project_id, ids[::-1] if before else ids)

    def curated_pair(self, pair_id: str) -> CuratedPair:
        """One pair with its prompts and the verdict that counts. Raises NotFoundError, PairStoppedError."""
        return self._curated(self.get_image_pair(pair_id).project_id, [pair_id])[0]

    def being_made_again(self, project_id: str) -> set[str]:
        """The pairs that a waiting or running job makes again."""
        return {row["value"] for row in self._db.query(BEING_MADE_AGAIN, {"project": project_id})}

    def extend_redo(self, project_id: str, pair_ids: Iterable[str]) -> Job | None:
        """Add pairs to the waiting job that makes pairs again; None where no such job waits."""
        with self._writing():
            queued = self._select(Job, "project_id = ? AND kind = 'pairs' AND state = 'queued'", project_id)
            for job in queued:
                if redo := job.config.get("redo"):
                    return self._update(Job, job.id, {"config": {**job.config, "redo": _joined(redo, pair_ids)}})
        return None

    def pairs_mark(self, project_id: str) -> str:
        """A short text that changes with each verdict, pair and stop, here or elsewhere, and when one is made again."""
        newest = (
            "SELECT (SELECT coalesce(max(rowid), 0) FROM verdicts) || '-' || coalesce(max(rowid), 0) || '-' || "
            "(SELECT coalesce(max(rowid), 0) FROM pair_stops) FROM image_pairs"
        )
        again = "-".join(sorted(self.being_made_again(project_id)))
        return f"{self._value(newest)}-{zlib.crc32(again.encode())}"

    def _page(
        self, project_id: str, query: PairQuery, edge: str, backwards: bool, limit: int
    ) -> tuple[str, dict[str, Any]]:
        """One SELECT a group, each along an index and cut to `limit`, merged in the query's order."""
        state, decisions, by_detector = FILTERS[query.shows]
        key, falling = SORTS[query.sort]
        sign, order = ("<", "DESC") if falling != backwards else (">", "ASC")
        values: dict[str, Any] = {"project": project_id, "state": state, "limit": limit}
        rest = " AND stopped = 0"
        if edge:
            self._get(ImagePair, edge)
            sql = f"SELECT {key} AS place, rowid AS row FROM image_pairs WHERE id = ?"
            values |= next(iter(self._db.query(sql, (edge,))))
            rest += f" AND {key} {sign}= :place AND ({key} {sign} :place OR rowid {sign} :row)"
        if query.prompt_pair_id:
            values["prompts"] = query.prompt_pair_id
            rest += " AND prompt_pair_id = :prompts"
        if query.shows == "undecided":
            rest += f" AND id NOT IN ({BEING_MADE_AGAIN})"
        free = "+" if query.prompt_pair_id else ""  # a unary plus: search by the prompt pair's index instead
        parts = [
            f"SELECT * FROM (SELECT id, {key} AS place, rowid AS row FROM image_pairs "
            f"WHERE {free}project_id = :project AND {free}state = :state "
            f"AND {free}decision = '{decision}' AND {free}by_detector = {by}{rest} "
            f"ORDER BY {key} {order}, rowid {order} LIMIT :limit)"
            for decision, by in product(decisions, by_detector)
        ]
        return f"{' UNION ALL '.join(parts)} ORDER BY place {order}, row {order} LIMIT :limit", values

    def _curated(self, project_id: str, ids: list[str]) -> list[CuratedPair]:
        """The pairs of these ids, in their order, with what a reviewer sees of each."""
        marks = ", ".join("?" * len(ids))
        pairs = {pair.id: pair for pair in self._select(ImagePair, f"id IN ({marks})", *ids)}
        of_these = f"id IN (SELECT {{}} FROM image_pairs WHERE id IN ({marks}))"
        prompts = {p.id: p for p in self._select(PromptPair, of_these.format("prompt_pair_id"), *ids)}
        verdicts = {v.pair_id: v for v in self._select(Verdict, of_these.format("decision_id"), *ids)}
        again = self.being_made_again(project_id)
        return [
            CuratedPair(pairs[i], prompts[pairs[i].prompt_pair_id], verdicts.get(i), i in again)
            for i in ids
            if i in pairs
        ]


def _joined(first: Iterable[str], more: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*first, *more]))
