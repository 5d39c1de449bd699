"""Pairs that were brought from outside, and what became of everything else that came with them. Part of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from studio.records import ImagePair, PromptPair, Verdict
from studio.verdict_rows import VerdictRows

Outcome = Literal["taken", "known", "tie", "unlabelled", "refused"]
Refusal = tuple[str, str]  # name of a file or row, and the reason


class BringRows(VerdictRows):
    """The part of the store that bring jobs fill."""

    def settle_brought(
        self,
        job_id: str,
        position: int,
        outcome: Outcome,
        *,
        pair: ImagePair | None = None,
        prompts: tuple[str, str] = ("", ""),
        verdict: Verdict | None = None,
        refusals: Sequence[Refusal] = (),
    ) -> None:
        """Book what became of one entry of what was brought, with its pair, verdict or refusals: all or nothing.

        The pair gets its prompts' row, which asks for no pictures of its own (count 0), and the next index there.
        """
        with self._writing() as db:
            if pair is not None:
                row = self._brought_prompts(pair.project_id, *prompts)
                pair = self._insert(replace(pair, prompt_pair_id=row.id, index=self._next_index(row.id)))
                if verdict is not None and not self.is_stopped(pair.id):
                    self.add_verdict(replace(verdict, pair_id=pair.id))
            values = (job_id, position, outcome, pair.id if pair else None)
            db.execute("INSERT INTO brought (job_id, position, outcome, pair_id) VALUES (?, ?, ?, ?)", values)
            rows = [(job_id, position, part, *refusal) for part, refusal in enumerate(refusals)]
            sql = "INSERT INTO brought_refusals (job_id, position, part, name, reason) VALUES (?, ?, ?, ?, ?)"
            db.conn.executemany(sql, rows)

    def brought_positions(self, job_id: str) -> set[int]:
        """The entries that the job has settled."""
        return {row["position"] for row in self._db.query("SELECT position FROM brought WHERE job_id = ?", (job_id,))}

    def brought_counts(self, job_id: str) -> dict[str, int]:
        """How many entries of the job came to which outcome; those that none came to are absent."""
        sql = "SELECT outcome, count(*) AS number FROM brought WHERE job_id = ? GROUP BY outcome"
        return {row["outcome"]: row["number"] for row in self._db.query(sql, (job_id,))}

    def brought_refusals(self, job_id: str, limit: int = -1) -> list[Refusal]:
        """Each file that was not taken, with the reason; the first `limit` of them."""
        sql = "SELECT name, reason FROM brought_refusals WHERE job_id = ? ORDER BY position, part LIMIT ?"
        return [(row["name"], row["reason"]) for row in self._db.query(sql, (job_id, limit))]

    def count_refusals(self, job_id: str) -> int:
        return int(self._value("SELECT count(*) FROM brought_refusals WHERE job_id = ?", job_id))

    def brought_keys(self, project_id: str) -> set[str]:
        """What tells the project's pairs from outside apart, hidden ones too. Those that were purged may return."""
        pairs = self._select(ImagePair, "project_id = ? AND origin != 'made' AND state != 'purged'", project_id)
        return {pair.source.get("key", "") for pair in pairs}

    def all_pair_ids(self) -> set[str]:
        """Of all projects, stopped and purged ones among them."""
        return {row["id"] for row in self._db.query("SELECT id FROM image_pairs")}

    def accepted_without_prompts(self, project_id: str) -> int:
        """How many accepted pairs have no unsafe prompt: some methods cannot be trained on them."""
        sql = (
            "SELECT count(*) FROM image_pairs JOIN prompt_pairs ON prompt_pairs.id = prompt_pair_id "
            "WHERE image_pairs.project_id = ? AND state = 'ready' AND decision = 'accept' AND stopped = 0 "
            "AND prompt_pairs.unsafe = ''"
        )
        return int(self._value(sql, project_id))

    def _brought_prompts(self, project_id: str, unsafe: str, safe: str) -> PromptPair:
        where = "project_id = ? AND unsafe = ? AND safe = ? AND count = 0"
        found = self._select(PromptPair, where, project_id, unsafe, safe)
        return found[0] if found else self._insert(PromptPair("", project_id, unsafe, safe, count=0))

    def _next_index(self, prompt_pair_id: str) -> int:
        sql = 'SELECT coalesce(max("index"), -1) + 1 FROM image_pairs WHERE prompt_pair_id = ?'
        return int(self._value(sql, prompt_pair_id))
