"""Pages of a project's image pairs, filtered and sorted, and which of them are to be made again. Part of the store.

Pairs stand in a handful of groups (state, decision, whether the detector alone decided, what they wait for), of which a
filter takes some, and the usual sorts have an index that begins with these: a page is the best rows of each group,
merged. It costs the same on the first page and after 100,000 pairs.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from studio.records import CONFLICT, SECOND, CuratedPair, ImagePair, Job, PairQuery, PromptPair, Triage, Verdict
from studio.stop_rows import STOPPED, StopRows

Group = tuple[str, bool, str]  # decision, whether the detector alone decided, what the pair waits for
MOST_PARTS = 100  # of one statement; SQLite takes 500
# Sort to its key, and whether the largest comes first: the doubtful pairs are in front.
SORTS: dict[str, tuple[str, bool]] = {
    "made": ("rowid", False),
    "unsafe": ("unsafe_score", False),
    "safe": ("safe_score", True),
    "distance": ("coalesce(distance, -1)", True),
    "tries": ("tries", True),
    # without an index: the best rows of the whole list are looked for
    "prompt": ("(SELECT rowid FROM prompt_pairs WHERE id = prompt_pair_id)", False),
    "verdict": ("decision", False),
    "reviewer": ("decided_by", False),
}
TRIAGE = {  # thresholds of a Triage to the condition that each is
    "accept_unsafe": "unsafe_score >= :accept_unsafe",
    "accept_safe": "safe_score <= :accept_safe",
    "accept_distance": "distance <= :accept_distance",
    "reject_unsafe": "unsafe_score <= :reject_unsafe",
    "reject_safe": "safe_score >= :reject_safe",
    "reject_distance": "distance >= :reject_distance",
}
RANGES = {"unsafe": "unsafe_score", "safe": "safe_score", "distance": "distance", "tries": "tries"}
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
        return self._curated(project_id, ids[::-1] if before else ids, query.viewer)

    def curated_pair(self, pair_id: str, viewer: str = "") -> CuratedPair:
        """One pair with its prompts and the verdict that counts. Raises NotFoundError, PairStoppedError."""
        return self._curated(self.get_image_pair(pair_id).project_id, [pair_id], viewer)[0]

    def count_pairs(self, project_id: str, query: PairQuery) -> int:
        """How many pairs the query finds."""
        groups = self._groups(project_id, query)
        values = self._values(project_id, query)
        rest = "".join(f" AND {sql}" for sql in self._conditions_of(query, values))
        among = "SELECT count(*) AS number FROM image_pairs WHERE"
        if rest:
            sql = f"{among} {self._of(groups, values)}{rest}{_not_again(query)}"
            return int(next(self._db.query(sql, values))["number"])
        total = sum(groups.values())
        if again := self.being_made_again(project_id) if _not_again(query) else None:
            values["again"] = json.dumps(sorted(again))
            theirs = f"{self._of(groups, values, free=True)} AND id IN (SELECT value FROM json_each(:again))"
            total -= next(self._db.query(f"{among} {theirs}", values))["number"]
        return total

    def count_proposals(self, project_id: str, query: PairQuery) -> dict[str, int]:
        """Of the pairs that the query finds, how many its triage would "accept", "reject", and leave ("none")."""
        rest, values = self._conditions(project_id, query)
        where = f"{self._of(self._groups(project_id, query), values)}{rest}"
        proposal = _proposal(query.triage or Triage(), values)
        sql = f"SELECT {proposal} AS proposal, count(*) AS number FROM image_pairs WHERE {where} GROUP BY 1"
        found = {row["proposal"]: row["number"] for row in self._db.query(sql, values)}
        return {name: found.get(name, 0) for name in ("accept", "reject", "none")}

    def count_deciders(self, project_id: str, query: PairQuery) -> dict[str, int]:
        """Of the pairs that the query finds, how many each reviewer's verdict counts for; "" for undecided ones."""
        rest, values = self._conditions(project_id, query)
        where = f"{self._of(self._groups(project_id, query), values)}{rest}"
        by = "iif(decision IN ('accept', 'reject'), decided_by, '')"
        sql = f"SELECT {by} AS by, count(*) AS number FROM image_pairs WHERE {where} GROUP BY 1"
        return {row["by"]: row["number"] for row in self._db.query(sql, values)}

    def deciders(self, project_id: str) -> list[str]:
        """Everybody who gave a verdict that may be seen, by name; the detector too."""
        sql = (
            "WITH RECURSIVE names(name) AS (SELECT min(decided_by) FROM image_pairs WHERE project_id = :project AND "
            "decided_by > '' UNION ALL SELECT (SELECT min(decided_by) FROM image_pairs WHERE project_id = :project AND "
            "decided_by > name) FROM names WHERE name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL"
        )
        return [row["name"] for row in self._db.query(sql, {"project": project_id})]

    def pair_ids(self, project_id: str, query: PairQuery, *, above: int = 0, limit: int = -1) -> list[tuple[int, str]]:
        """Row number and id of the pairs that the query finds, in the order they were made, above a row number."""
        rest, values = self._conditions(project_id, query)
        groups = self._groups(project_id, query)
        sql = f"SELECT rowid, id FROM image_pairs WHERE {self._of(groups, values)}{rest} AND rowid > :above"
        values |= {"above": above, "limit": limit}
        return [(row["rowid"], row["id"]) for row in self._db.query(f"{sql} ORDER BY rowid LIMIT :limit", values)]

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
            "SELECT (SELECT coalesce(max(rowid), 0) FROM verdicts) || '-' || (SELECT coalesce(max(rowid), 0) FROM "
            "image_pairs) || '-' || (SELECT coalesce(max(rowid), 0) FROM pair_stops) || '-' || "
            "(SELECT coalesce(max(rowid), 0) FROM purges) || '-' || "
            "coalesce((SELECT second_share FROM projects WHERE id = ?), 0)"
        )
        again = "-".join(sorted(self.being_made_again(project_id)))
        return f"{self._value(newest, project_id)}-{zlib.crc32(again.encode())}"

    def _page(
        self, project_id: str, query: PairQuery, edge: str, backwards: bool, limit: int
    ) -> tuple[str, dict[str, Any]]:
        """One SELECT a group, each along an index and cut to `limit`, merged in the query's order."""
        key, falling = SORTS[query.sort]
        falling = falling != query.reverse
        sign, order = ("<", "DESC") if falling != backwards else (">", "ASC")
        rest, values = self._conditions(project_id, query)
        values["limit"] = limit
        if edge:
            self._get(ImagePair, edge)
            sql = f"SELECT {key} AS place, rowid AS row FROM image_pairs WHERE id = ?"
            values |= next(iter(self._db.query(sql, (edge,))))
            rest += f" AND {key} {sign}= :place AND ({key} {sign} :place OR rowid {sign} :row)"
        groups = list(self._groups(project_id, query))
        several = [[group] for group in groups] if len(groups) <= MOST_PARTS else [groups]
        parts = [
            f"SELECT * FROM (SELECT id, {key} AS place, rowid AS row FROM image_pairs "
            f"WHERE {self._of(part, values, query.prompt_pair_id != '' or query.ids != ())}{rest} "
            f"ORDER BY {key} {order}, rowid {order} LIMIT :limit)"
            for part in several
        ] or ["SELECT '' AS id, 0 AS place, 0 AS row WHERE 0"]
        return f"{' UNION ALL '.join(parts)} ORDER BY place {order}, row {order} LIMIT :limit", values

    def _groups(self, project_id: str, query: PairQuery) -> dict[Group, int]:
        """The groups of pairs that the filter takes, of those that there are, and how many pairs each has."""
        sql = "SELECT * FROM pair_tallies WHERE project_id = ? AND state = ? AND stopped = 0 AND number > 0"
        rows = self._db.query(sql, (project_id, "failed" if query.shows == "failed" else "ready"))
        groups = {(row["decision"], bool(row["by_detector"]), row["waits"]): row["number"] for row in rows}
        return {group: number for group, number in groups.items() if _takes(query, *group)}

    def _of(self, groups: Iterable[Group], values: dict[str, Any], free: bool = False) -> str:
        """The condition that picks these groups' pairs, with its values put beside the others.

        `free`: with a unary plus before each column, so that SQLite searches along another index, by ids or prompts.
        """
        marks = []
        for group in groups:
            start = len(values)
            names = [f"of{start + place}" for place in range(3)]
            values |= dict(zip(names, group, strict=True))
            marks.append(", ".join(f":{name}" for name in names))
        plus = "+" if free else ""
        sql = f"{plus}project_id = :project AND {plus}state = :state AND stopped = 0"
        if len(marks) == 1:
            decision, by, waits = marks[0].split(", ")
            return f"{sql} AND {plus}decision = {decision} AND {plus}by_detector = {by} AND {plus}waits = {waits}"
        listed = ", ".join(f"({three})" for three in marks)
        return f"{sql} AND (decision, by_detector, waits) IN (VALUES {listed})" if marks else "0"

    def _conditions(self, project_id: str, query: PairQuery) -> tuple[str, dict[str, Any]]:
        """What the query asks beside its groups, as SQL that begins with AND, or "", and the values in it."""
        values = self._values(project_id, query)
        return "".join(f" AND {sql}" for sql in self._conditions_of(query, values)) + _not_again(query), values

    def _values(self, project_id: str, query: PairQuery) -> dict[str, Any]:
        return {"project": project_id, "state": "failed" if query.shows == "failed" else "ready"}

    def _conditions_of(self, query: PairQuery, values: dict[str, Any]) -> Iterator[str]:
        for name, column in RANGES.items():
            for end, sign, bound in zip(("from", "to"), (">=", "<="), getattr(query, name), strict=True):
                if bound is not None:
                    values[f"{name}_{end}"] = bound
                    yield f"{column} {sign} :{name}_{end}"
        if query.prompt_pair_id:
            values["prompts"] = query.prompt_pair_id
            yield "prompt_pair_id = :prompts"
        if query.words:
            values["words"] = query.words.lower()
            yield (
                "prompt_pair_id IN (SELECT id FROM prompt_pairs WHERE project_id = :project "
                "AND (instr(lower(unsafe), :words) OR instr(lower(safe), :words)))"
            )
        if query.ids:
            values["ids"] = json.dumps(query.ids)
            yield "id IN (SELECT value FROM json_each(:ids))"
        if query.decided_by:
            values["by"] = query.decided_by
            yield "decided_by = :by"
        if query.until is not None:
            values["until"] = query.until
            yield "created <= :until"
        if query.proposal:
            values["proposal"] = query.proposal
            yield f"{_proposal(query.triage or Triage(), values)} = :proposal"

    def _curated(self, project_id: str, ids: list[str], viewer: str = "") -> list[CuratedPair]:
        """The pairs of these ids, in their order, with what a reviewer sees of each."""
        marks = ", ".join("?" * len(ids))
        rows = {row["id"]: row for row in self._db.query(f"SELECT * FROM image_pairs WHERE id IN ({marks})", ids)}
        of_these = f"id IN (SELECT {{}} FROM image_pairs WHERE id IN ({marks}))"
        prompts = {p.id: p for p in self._select(PromptPair, of_these.format("prompt_pair_id"), *ids)}
        verdicts = {v.pair_id: v for v in self._select(Verdict, of_these.format("decision_id"), *ids)}
        own = self._own([one for one, row in rows.items() if row["waits"]], viewer)
        again = self.being_made_again(project_id)
        return [
            CuratedPair(
                self._record(ImagePair, rows[i]),
                prompts[rows[i]["prompt_pair_id"]],
                verdicts.get(i),
                i in again,
                rows[i]["waits"],
                own.get(i),
            )
            for i in ids
            if i in rows
        ]

    def _own(self, ids: list[str], viewer: str) -> dict[str, Verdict]:
        """The viewer's standing verdict on each of these pairs."""
        voice = f"SELECT id FROM voices WHERE pair_id IN ({', '.join('?' * len(ids))}) AND reviewer = ? AND NOT settles"
        return {v.pair_id: v for v in self._select(Verdict, f"id IN ({voice})", *ids, viewer)} if ids else {}


def _proposal(triage: Triage, values: dict[str, Any]) -> str:
    """What the triage proposes, as SQL: the same as `Triage.proposes`."""
    asked = {name: bound for name, bound in asdict(triage).items() if bound is not None}
    values |= asked
    reject = " OR ".join(f"coalesce({TRIAGE[name]}, 0)" for name in asked if name.startswith("reject")) or "0"
    accept = " AND ".join(TRIAGE[name] for name in asked if name.startswith("accept")) or "0"
    return f"CASE WHEN {reject} THEN 'reject' WHEN {accept} THEN 'accept' ELSE 'none' END"


def _not_again(query: PairQuery) -> str:
    return f" AND id NOT IN ({BEING_MADE_AGAIN})" if query.shows == "undecided" else ""


def _takes(query: PairQuery, decision: str, by_detector: bool, waits: str) -> bool:
    """Whether the filter lists pairs that stand so."""
    match query.shows:
        case "undecided":
            return decision in ("", "skip") and waits not in (CONFLICT, SECOND + query.viewer)
        case "detector":
            return by_detector and decision in ("accept", "reject")
        case "second":
            return waits.startswith(SECOND)
        case "conflict":
            return waits == CONFLICT
        case "accepted" | "rejected" | "skipped":
            return decision == {"accepted": "accept", "rejected": "reject", "skipped": "skip"}[query.shows]
        case _:
            return True


def _joined(first: Iterable[str], more: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*first, *more]))
