"""Who agreed to which notice, how each reviewer wants to look, and how long each looked today. Part of the store."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict
from typing import Any

from studio.care import IDLE_SECONDS, REST_SECONDS, Care
from studio.database import RecordFile
from studio.records import CareDay

_GAP = f"min(max(:now - last_at, 0), {IDLE_SECONDS})"
_RESTED = f":now - last_at >= {REST_SECONDS}"
_SIGN = f"""
INSERT INTO care_days (project_id, reviewer, day, pairs, last_pair, last_at)
VALUES (:project, :reviewer, :day, :pair != '', :pair, :now)
ON CONFLICT DO UPDATE SET seconds = seconds + {_GAP}, since_break = iif({_RESTED}, 0, since_break + {_GAP}),
    postponed = iif({_RESTED}, 0, postponed), pairs = pairs + (:pair NOT IN ('', last_pair)),
    last_pair = iif(:pair = '', last_pair, :pair), last_at = max(last_at, :now)
"""
_DAY = "project_id = :project AND reviewer = :reviewer AND day = :day"


class CareRows(RecordFile):
    """The part of the store that looks after reviewers."""

    def agree(self, project_id: str, reviewer: str, version: str) -> None:
        """Keep that the reviewer agreed to this version of the project's notice; told again, it is one row."""
        row = (secrets.token_hex(6), project_id, reviewer, version, time.time())
        with self._writing() as db:
            db.execute("INSERT OR IGNORE INTO consents VALUES (?, ?, ?, ?, ?)", row)

    def has_agreed(self, project_id: str, reviewer: str, version: str) -> bool:
        which = "project_id = ? AND reviewer = ? AND version = ?"
        return bool(self._value(f"SELECT count(*) FROM consents WHERE {which}", project_id, reviewer, version))

    def list_consents(self, project_id: str) -> list[dict[str, Any]]:
        """reviewer, version and created of each, oldest first."""
        sql = "SELECT reviewer, version, created FROM consents WHERE project_id = ? ORDER BY rowid"
        return list(self._db.query(sql, (project_id,)))

    def set_care(self, reviewer: str, care: Care) -> None:
        with self._writing() as db:
            row = (reviewer, json.dumps(asdict(care)), time.time())
            db.execute("INSERT OR REPLACE INTO care_settings VALUES (?, ?, ?)", row)

    def care_of(self, project_id: str, reviewer: str, day: str, otherwise: Care) -> tuple[Care, CareDay]:
        """How the reviewer wants to look, `otherwise` where nothing was chosen, and that day in the project."""
        sql = (
            "SELECT care_settings.settings, care_days.* FROM (SELECT :reviewer AS name) "
            "LEFT JOIN care_settings ON care_settings.reviewer = name LEFT JOIN care_days ON "
            "project_id = :project AND care_days.reviewer = name AND day = :day"
        )
        row = next(self._db.query(sql, {"project": project_id, "reviewer": reviewer, "day": day}))
        care = otherwise.with_changes(json.loads(row["settings"])) if row["settings"] else otherwise
        return care, _day({**row, "reviewer": reviewer}) if row["day"] else CareDay(reviewer)

    def note_sign(self, project_id: str, reviewer: str, day: str, now: float, pair_id: str = "") -> None:
        """The reviewer did something at `now`: the time since the last sign was spent looking, up to IDLE_SECONDS.

        A `pair_id` was decided on; several decisions on one pair in a row count once.
        """
        values = {"project": project_id, "reviewer": reviewer, "day": day, "now": now, "pair": pair_id}
        with self._writing() as db:
            db.execute(_SIGN, values)

    def note_break(self, project_id: str, reviewer: str, day: str, now: float, *, later: bool) -> None:
        """A break that ends at `now`, or is put off; the time that it was asked about does not count."""
        changes = "postponed = 1" if later else "postponed = 0, since_break = 0"
        values = {"project": project_id, "reviewer": reviewer, "day": day, "now": now}
        with self._writing() as db:
            db.execute(f"UPDATE care_days SET {changes}, last_at = :now WHERE {_DAY}", values)

    def add_session(self, project_id: str, reviewer: str, day: str) -> None:
        """The owner's word that the reviewer may look once more as long on that day."""
        values = {"project": project_id, "reviewer": reviewer, "day": day}
        with self._writing() as db:
            db.execute(f"UPDATE care_days SET sessions = sessions + 1 WHERE {_DAY}", values)

    def care_days(self, project_id: str, day: str) -> list[CareDay]:
        """Everybody who looked at the project's pairs on that day, by name."""
        sql = "SELECT * FROM care_days WHERE project_id = ? AND day = ? ORDER BY reviewer"
        return [_day(row) for row in self._db.query(sql, (project_id, day))]


def _day(row: dict[str, Any]) -> CareDay:
    return CareDay(
        row["reviewer"], row["seconds"], row["since_break"], bool(row["postponed"]), row["pairs"], row["last_pair"],
        row["sessions"],
    )  # fmt: skip
