"""Which rows name a picture: whose it is, and what was seen in it. Part of the store."""

from __future__ import annotations

from studio.database import RecordFile
from studio.records import PictureUse

_USES = """
SELECT project_id, 'unsafe' AS what, NULL AS found, unsafe_score AS score FROM image_pairs WHERE unsafe_image = :name
UNION ALL SELECT project_id, 'safe', NULL, safe_score FROM image_pairs WHERE safe_image = :name
UNION ALL SELECT jobs.project_id, 'drawn', found, score FROM samples JOIN jobs ON jobs.id = job_id WHERE image = :name
UNION ALL SELECT project_id, 'safe', NULL, score FROM edits JOIN image_pairs ON image_pairs.id = pair_id
    WHERE image = :name
UNION ALL SELECT project_id, 'drawn', found, score FROM attempts WHERE image = :name
UNION ALL SELECT project_id, 'drawn', success, score FROM attack_runs WHERE image = :name
"""


class PictureRows(RecordFile):
    """The part of the store that knows where pictures belong."""

    def picture_uses(self, sha256: str) -> list[PictureUse]:
        """Every row that names the picture, stopped pairs' among them; none of a picture that only Compare drew."""
        rows = self._db.query(_USES, {"name": sha256})
        verdict = {None: None, 0: False, 1: True}
        return [PictureUse(row["project_id"], row["what"], verdict[row["found"]], row["score"]) for row in rows]

    def blurs_anything(self) -> bool:
        """Whether any project shows its pictures blurred."""
        return bool(self._value("SELECT EXISTS (SELECT 1 FROM projects WHERE blur = 1)"))
