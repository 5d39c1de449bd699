"""How records reach the SQLite file and come back: connections, transactions, rows. What is asked is in `store`."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlite_utils import Database, Migrations

from studio.records import (
    AttackRun,
    Attempt,
    BulkAction,
    Checkpoint,
    Edit,
    Evaluation,
    ImagePair,
    Job,
    PairStop,
    Project,
    PromptPair,
    PromptShelf,
    Purge,
    Sample,
    Trial,
    Verdict,
)

BUSY_SECONDS = 30.0

TABLES: dict[type, str] = {
    Project: "projects",
    PromptPair: "prompt_pairs",
    ImagePair: "image_pairs",
    Verdict: "verdicts",
    Job: "jobs",
    Checkpoint: "checkpoints",
    Evaluation: "evaluations",
    PromptShelf: "prompt_shelves",
    Attempt: "attempts",
    Sample: "samples",
    AttackRun: "attack_runs",
    PairStop: "pair_stops",
    BulkAction: "bulk_actions",
    Edit: "edits",
    Purge: "purges",
    Trial: "trials",
}
# Texts that are dictionaries, as JSON, by table.
JSON_TEXTS = {
    table: tuple(f.name for f in fields(cls) if str(f.type).startswith("dict")) for cls, table in TABLES.items()
}
# Texts that are paths: in the file relative to its folder, which is the data folder and may be moved as a whole; in
# records absolute. What lies elsewhere is kept as it is.
PATHS: dict[type, str] = {Checkpoint: "path", Evaluation: "folder"}
R = TypeVar(
    "R", Project, PromptPair, ImagePair, Verdict, Job, Checkpoint, Evaluation, PromptShelf, Attempt, Sample, AttackRun,
    PairStop,
    BulkAction, Purge, Edit, Trial,
)  # fmt: skip


class StoreError(ValueError):
    """The store refuses what it was asked; says what, why, and what to do."""


FileFailure = sqlite3.DatabaseError  # of the file itself: locked for too long, full, read-only, damaged


class NotFoundError(StoreError):
    """No record has this id."""


class RecordFile:
    """One SQLite file in WAL mode that keeps records; subclassed by the store, which knows what to ask of it.

    May be shared by threads: each opens its own connection at first use. Several processes may open the same file;
    `BUSY_SECONDS` is how long one waits for another's write.
    """

    def __init__(self, database: Path, migrations: Migrations) -> None:
        self.database = Path(database)
        self.database.parent.mkdir(parents=True, exist_ok=True)
        self.folder = self.database.parent.absolute()
        self._local = threading.local()
        self._turn = threading.RLock()  # threads queue here: SQLite's own wait is a nap of up to 100 ms
        try:
            with self._writing() as db:
                migrations.apply(db)
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self.database} cannot be opened as the studio's data ({error}). Restore it from a copy, see that it "
                "can be written, or set DUO_STUDIO_DATA to another folder."
            ) from error

    def close(self) -> None:
        """Close this thread's connection; the next call opens a new one."""
        if hasattr(self._local, "db"):
            self._local.db.close()
            del self._local.db

    @property
    def _db(self) -> Database:
        if not hasattr(self._local, "db"):
            self._local.db = _connect(self.database)
        return self._local.db

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        """One transaction that holds the write lock from its start, so that what it reads cannot change under it.

        A plain BEGIN that reads and then writes fails at once, whatever the time-out, if another process wrote between.
        """
        db = self._db
        if db.conn.in_transaction:
            with db.atomic():
                yield db
            return
        with self._turn:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.commit()  # which checks deferred foreign keys, and leaves the transaction open where one is broken
            except BaseException:
                db.rollback()
                raise

    def _change(self, sql: str, values: Sequence[Any]) -> bool:
        """Run one UPDATE, which is atomic by itself; True where it changed a row."""
        return self._db.execute(sql, values).rowcount > 0

    def _insert(self, record: R) -> R:
        made: dict[str, Any] = {"id": record.id or secrets.token_hex(6)}
        if hasattr(record, "created"):
            made["created"] = record.created or time.time()
        if name := PATHS.get(type(record)):
            made[name] = str(self.folder / getattr(record, name))
        record = replace(record, **made)
        row = self._row(type(record), {f.name: getattr(record, f.name) for f in fields(record)})
        columns = ", ".join(f'"{name}"' for name in row)
        table, marks = TABLES[type(record)], ", ".join("?" * len(row))
        try:
            self._db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(row.values()))
        except sqlite3.IntegrityError as error:
            raise StoreError(f"{record} cannot be stored in {table}: {error}.") from error
        return record

    def _get(self, cls: type[R], record_id: str) -> R:
        found = self._select(cls, "id = ?", record_id)
        if not found:
            raise NotFoundError(f"There is no {cls.__name__} with the id {record_id!r} in {self.database}.")
        return found[0]

    def _select(self, cls: type[R], where: str = "1", *values: Any) -> list[R]:
        rows = self._db.query(f"SELECT * FROM {TABLES[cls]} WHERE {where} ORDER BY rowid", values)
        return [self._record(cls, row) for row in rows]

    def _value(self, sql: str, *values: Any) -> Any:
        """The one value that a question has."""
        return self._db.execute(sql, values).fetchone()[0]

    def _update(self, cls: type[R], record_id: str, changes: dict[str, Any]) -> R:
        unknown = changes.keys() - {f.name for f in fields(cls)} | changes.keys() & {"id"}
        if unknown:
            raise StoreError(f"{', '.join(sorted(unknown))}: no field of {cls.__name__} that can be changed.")
        if changes:
            settings = ", ".join(f'"{name}" = ?' for name in changes)
            values = (*self._row(cls, changes).values(), record_id)
            self._change(f"UPDATE {TABLES[cls]} SET {settings} WHERE id = ?", values)
        return self._get(cls, record_id)

    def _row(self, cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
        row = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()}
        name = PATHS.get(cls)
        if name is not None and name in row:
            path = self.folder / row[name]
            row[name] = path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)
        return row

    def _record(self, cls: type[R], row: Mapping[str, Any]) -> R:
        name = PATHS.get(cls)
        return _record(cls, {**row, name: str(self.folder / row[name])} if name else row)


def integrity_of(database: Path) -> list[str]:
    """What is wrong with a file of the studio, by SQLite's check and by rows that hang on none; [] where nothing."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as db:
            found = [row[0] for row in db.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
            found += [f"a row of {row[0]} names one of {row[2]} that is not there"
                      for row in db.execute("PRAGMA foreign_key_check").fetchmany(5)]  # fmt: skip
            if not db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'projects'").fetchone()[0]:
                found.append("it has no table of projects")
            return found
    except sqlite3.Error as error:
        return [str(error)]


def copy_database(source: Path, target: Path) -> None:
    """Write a copy of one moment, without a log beside it, while others may write. Raises StoreError."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as db:
            db.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        raise StoreError(f"{source} cannot be copied: {error}.") from error


def _record(cls: type[R], row: Mapping[str, Any]) -> R:
    """The record of one row; dictionaries are kept as JSON, booleans as 0 and 1."""
    values: dict[str, Any] = {}
    for field in fields(cls):
        value = row[field.name]
        if str(field.type).startswith("dict"):
            value = dict(_parsed(value))
        elif str(field.type).startswith("bool") and value is not None:
            value = bool(value)
        values[field.name] = value
    return cls(**values)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> dict[str, Any]:
    """A dictionary kept as JSON. An open page reads all jobs every other second, and their texts seldom change."""
    return json.loads(text)


def _connect(database: Path) -> Database:
    """Open the file for this thread, in WAL mode so that readers never wait for a writer."""
    db = Database(sqlite3.connect(database, timeout=BUSY_SECONDS))
    db.execute(f"PRAGMA busy_timeout = {round(BUSY_SECONDS * 1000)}")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA synchronous = NORMAL")  # with WAL: a killed process loses nothing, a power cut the last moments
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.enable_wal()
            return db
        except sqlite3.OperationalError as error:  # the one lock that SQLite's own time-out does not wait for
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
