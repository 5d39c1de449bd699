"""What the store tells of the pairs as a set: what each prompt has, which pictures look alike. Part of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from studio.database import RecordFile
from studio.records import Coverage, ImagePair, PromptPair


class QualityRows(RecordFile):
    """The part of the store that looks at all pairs of a project together."""

    def coverage(self, project_id: str) -> list[Coverage]:
        """Each prompt pair with what was made of it, in the order of the table."""
        sql = (
            "SELECT prompt_pair_id, sum(state = 'ready') AS ready, sum(state = 'failed') AS failed, "
            "sum(state = 'ready' AND decision = 'accept') AS accepted, "
            "sum(state = 'ready' AND decision = 'reject') AS rejected "
            "FROM image_pairs WHERE project_id = ? AND stopped = 0 GROUP BY prompt_pair_id"
        )
        found = {row.pop("prompt_pair_id"): row for row in self._db.query(sql, (project_id,))}
        prompts = self._select(PromptPair, "project_id = ?", project_id)
        return [Coverage(pair, **found.get(pair.id, {})) for pair in prompts]

    def pairs_without_looks(self, project_id: str, limit: int) -> list[ImagePair]:
        """Ready pairs whose pictures nobody has looked at for near-duplicates."""
        where = "project_id = ? AND looks = '' AND state = 'ready' AND stopped = 0"
        return self._select(
            ImagePair, f"rowid IN (SELECT rowid FROM image_pairs WHERE {where} LIMIT ?)", project_id, limit
        )

    def count_without_looks(self, project_id: str) -> int:
        where = "project_id = ? AND looks = '' AND state = 'ready' AND stopped = 0"
        return int(self._value(f"SELECT count(*) FROM image_pairs WHERE {where}", project_id))

    def keep_looks(self, looks: Iterable[tuple[ImagePair, str]]) -> None:
        """What pairs look like; not of one whose pictures have changed meanwhile."""
        with self._writing() as db:
            for pair, value in looks:
                same = "id = ? AND unsafe_image = ? AND safe_image = ?"
                db.execute(
                    f"UPDATE image_pairs SET looks = ? WHERE {same}",
                    (value, pair.id, pair.unsafe_image, pair.safe_image),
                )

    def pair_looks(self, project_id: str) -> dict[str, str]:
        """By id, in the order they were made, what each pair looks like that is ready and not rejected."""
        where = "project_id = ? AND looks != '' AND state = 'ready' AND stopped = 0 AND decision != 'reject'"
        rows = self._db.query(f"SELECT id, looks FROM image_pairs WHERE {where} ORDER BY rowid", (project_id,))
        return {row["id"]: row["looks"] for row in rows}

    def pair_versions(self, pair_ids: Sequence[str]) -> dict[str, str]:
        """By id, in the order given, the version of each pair."""
        marks = ", ".join("?" * len(pair_ids))
        versions = {pair.id: pair.version for pair in self._select(ImagePair, f"id IN ({marks})", *pair_ids)}
        return {pair_id: versions[pair_id] for pair_id in pair_ids if pair_id in versions}
