"""All rows of one project, out of the file and into another: what an archive holds. Part of the store.

Which rows are a project's is read from the schema: those with its id, and those that refer to them. A table that is
added later is taken along by itself.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

from studio.database import JSON_TEXTS, RecordFile, StoreError

_SHA256 = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_ID, _HEX = re.compile(r"[0-9A-Za-z_-]{1,64}"), re.compile(r"[0-9a-f]{0,64}")
Rows = dict[str, list[dict[str, Any]]]  # by table
_EMPTY: dict[str, Any] = {
    "state": "failed", "reason": "This pair was stopped where it was made, and is not part of the archive.", "seed": 0,
    "unsafe_image": "", "safe_image": "", "unsafe_score": 0.0, "safe_score": 0.0, "distance": None, "decision": "",
    "decision_id": None, "by_detector": 0, "stopped": 0, "source": "{}",
}  # fmt: skip


class ProjectRows(RecordFile):
    """The part of the store that moves projects."""

    def export_rows(self, project_id: str) -> Rows:
        """Every row of the project as it lies in the file; a job that has not ended is written as stopped.

        Of a pair that was stopped (see `studio.stop_rows`) only the place is written, as a failed pair without
        pictures, scores, seed and verdicts: so nobody who opens the archive makes it again from its first seed.
        """
        with self._writing() as db:  # one moment for all tables
            rows = {
                table: list(
                    db.query(f'SELECT * FROM "{table}" WHERE {where} ORDER BY {self._order(table)}', (project_id,))
                )
                for table, where in self._owned().items()
            }
        for job in rows["jobs"]:
            if job["state"] not in ("stopped", "done", "failed"):
                job |= {"state": "stopped", "pid": None, "pid_started": None, "eta_seconds": None}
            job |= {"place": "{}"}  # a job at somebody's account is nobody else's to follow or to cancel
        stopped = {pair["id"] for pair in rows["image_pairs"] if pair["stopped"]}
        rows["image_pairs"] = [pair | _EMPTY if pair["stopped"] else pair for pair in rows["image_pairs"]]
        rows["verdicts"] = [verdict for verdict in rows["verdicts"] if verdict["pair_id"] not in stopped]
        rows["pair_stops"] = []  # they name pictures that are not part of the archive
        return rows

    def import_rows(self, rows: Rows) -> None:
        """Add what `export_rows` gave: all of it or, on an error, none. Raises StoreError where a row does not fit."""
        self.check_rows(rows)
        owned = self._owned()
        if unknown := rows.keys() - owned.keys():
            raise StoreError(f"this studio has no table {', '.join(sorted(unknown))}. Use a newer one.")
        try:
            with self._writing() as db:
                db.execute("PRAGMA defer_foreign_keys = ON")
                for table in owned:
                    for row in rows.get(table, []):
                        columns = ", ".join(f'"{name}"' for name in self._known(table, row))
                        marks = ", ".join("?" * len(row))
                        db.execute(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', tuple(row.values()))
                self._check_owners(owned, rows)
        except (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError, OverflowError) as error:
            raise StoreError(f"its rows do not fit ({error}). Is the project here already?") from error

    def check_rows(self, rows: Rows) -> None:
        """Raise StoreError where a row holds what no studio writes, though its table would take it.

        Ids and hashes become names of files and folders (some of which are deleted whole) and parts of addresses; one
        text that is no dictionary, where a dictionary is kept, keeps its whole table from being read.
        """
        for table, listed in rows.items():
            for row in listed:
                for column, value in row.items():
                    if not _is_possible(table, column, value):
                        raise StoreError(f"a row of {table} has the {column} {str(value)[:60]!r}, which cannot be.")

    def _check_owners(self, owned: dict[str, str], rows: Rows) -> None:
        """Raise StoreError where a row that was added hangs on another project's."""
        project_id = rows["projects"][0]["id"]
        for table, condition in owned.items():
            count = self._value(f'SELECT count(*) FROM "{table}" WHERE {condition}', project_id)
            if count != len(rows.get(table, [])):
                raise StoreError(f"rows of {table} belong to another project.")

    def image_names(self, rows: Rows) -> set[str]:
        """The pictures that these rows name: what stands in a column called "image" or "…_image", of no purged pair."""
        return {
            value
            for table in rows.values()
            for row in table
            if row.get("state") != "purged"
            for column, value in row.items()
            if value and (column == "image" or column.endswith("_image"))
        }

    def mentioned_hashes(self) -> set[str]:
        """Every SHA-256 in any text of any row, of all projects: names of pictures that are in use, and others."""
        found: set[str] = set()
        for table in self._db.table_names():
            for row in self._db.query(f'SELECT * FROM "{table}"'):
                for value in row.values():
                    if isinstance(value, str) and len(value) >= 64:
                        found |= set(_SHA256.findall(value))
        return found

    def _order(self, table: str) -> str:
        """That of writing, which readers rely on; or of the key where the table keeps no row numbers."""
        without = self._value("SELECT wr FROM pragma_table_list WHERE name = ?", table)
        return ", ".join(f'"{name}"' for name in self._db.table(table).pks) if without else "rowid"

    def _known(self, table: str, row: dict[str, Any]) -> list[str]:
        """The row's columns, all of which the table must have: they become part of a statement."""
        columns = {column["name"] for column in self._db.query(f'PRAGMA table_info("{table}")')}
        if unknown := row.keys() - columns:
            raise StoreError(f"table {table} has no column {', '.join(sorted(unknown))}. Use a newer studio.")
        return list(row)

    def _owned(self) -> dict[str, str]:
        """Each table that holds projects' rows, with the condition that picks one project's; projects come first."""
        owned = {"projects": "id = ?"}
        waiting = [name for name in self._db.table_names() if not name.startswith("_") and name not in owned]
        while found := dict(self._next_owned(waiting, owned)):
            owned |= found
            waiting = [name for name in waiting if name not in found]
        return owned

    def _next_owned(self, waiting: list[str], owned: dict[str, str]) -> Iterator[tuple[str, str]]:
        for table in waiting:
            columns = self._db.query(f'PRAGMA table_info("{table}")')
            always = {column["name"] for column in columns if column["notnull"]}  # what may be empty owns nothing
            keys = [key for key in self._db.query(f'PRAGMA foreign_key_list("{table}")') if key["from"] in always]
            for key in sorted(keys, key=lambda key: key["table"] != "projects"):
                if key["table"] in owned and key["table"] != table:
                    parent = f'SELECT "{key["to"]}" FROM "{key["table"]}" WHERE {owned[key["table"]]}'
                    yield table, f'"{key["from"]}" IN ({parent})'
                    break


def _is_possible(table: str, column: str, value: Any) -> bool:
    if value is None:  # the table says whether it may be
        return True
    if column == "id" or column.endswith("_id"):
        return isinstance(value, str) and _ID.fullmatch(value) is not None
    if column.endswith("sha256"):
        return isinstance(value, str) and _HEX.fullmatch(value) is not None
    if column in JSON_TEXTS.get(table, ()):
        try:
            return isinstance(json.loads(value), dict)
        except (TypeError, ValueError, RecursionError):
            return False
    return True
