"""What can still be read of a damaged database is put into a copy of it that is older. Torch-free.

A row of both is that of the damaged file only where this is certain to be the newer one: it says so itself by its
times, or the whole file was written after the copy. Nothing that the triggers compute is taken over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from studio.damaged import TIMES, Found, Key, Record, Table, read_tables, tables_of
from studio.sqlite_pages import DatabaseFile

# What triggers keep; and tables whose rows nothing but a loss takes away.
DERIVED = {"image_pairs": ("decision", "decision_id", "by_detector", "waits", "decided_by", "stopped")}
KEPT_FOR_EVER = ("projects", "image_pairs", "verdicts", "jobs", "checkpoints", "evaluations", "pair_stops", "purges")


@dataclass
class Count:
    """Where the rows of one table came from."""

    table: str
    copied: int = 0  # from the copy
    newer: int = 0  # in both, but newer in the damaged file
    added: int = 0  # in the damaged file alone
    deleted: int = 0  # in the copy alone, since they were deleted later
    unsure: int = 0  # in both and different, and nothing says which is newer: the copy's stayed
    unreadable: int = 0  # whose key or place is known, and nothing else; in the copy neither
    unfit: int = 0  # that were read, but hang on rows that are lost, or are no rows of this table
    pages: int = 0  # that could not be read
    is_least: bool = False  # whether more rows than `unreadable` may be lost: the index of keys is not whole

    @property
    def is_told(self) -> bool:
        """Whether there is anything to say of the table."""
        return any(value for name, value in asdict(self).items() if name not in ("table", "is_least"))


def merge(damaged: Path, target: Path, copied_at: float) -> list[Count]:
    """Put into `target`, a copy that was made at `copied_at` (seconds since 1970), what `damaged` has that is newer."""
    with closing(sqlite3.connect(target, isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA foreign_keys = ON")
        tables = tables_of(db)
        file = DatabaseFile(damaged, db.execute("PRAGMA page_size").fetchone()[0])
        found = read_tables(file, tables)
        later = _is_later(db, file, damaged, tables, found, copied_at)
        db.execute("BEGIN IMMEDIATE")
        frozen = db.execute("SELECT sql FROM sqlite_master WHERE name = 'image_pairs_are_frozen'").fetchone()[0]
        db.execute("DROP TRIGGER image_pairs_are_frozen")  # what was purged later must be so here too
        counts = {name: Count(name, pages=one.pages, is_least=one.keys is None) for name, one in found.items()}
        if later:
            for name in reversed(tables):
                _delete(db, tables[name], found[name], counts[name])
        for name in tables:
            _put(db, tables[name], found[name], counts[name], later)
        db.execute(frozen)
        db.execute("COMMIT")
    return list(counts.values())


def rows_that_are_gone(database: Path, copy: Path) -> int:
    """How many rows of the copy the database lacks, of those that nothing deletes."""
    with closing(sqlite3.connect(f"file:{quote(str(copy))}?mode=ro", uri=True)) as db:
        db.execute("ATTACH ? AS now", (f"file:{quote(str(database))}?mode=ro",))
        both = "SELECT name FROM main.sqlite_master INTERSECT SELECT name FROM now.sqlite_master"
        there = {row[0] for row in db.execute(both)}
        return sum(
            db.execute(f"SELECT count(*) FROM main.{name} WHERE id NOT IN (SELECT id FROM now.{name})").fetchone()[0]
            for name in KEPT_FOR_EVER
            if name in there
        )


# -- into the copy ----------------------------------------------------------------------------------------------------


def _is_later(
    db: sqlite3.Connection, file: DatabaseFile, damaged: Path, tables: Mapping[str, Table],
    found: Mapping[str, Found], copied_at: float,
) -> bool:  # fmt: skip
    """Whether the whole damaged file was written after the copy: it has all that the copy has, and is as new.

    One whose log was lost is older than it: only what its rows say themselves counts then.
    """
    if not file.has_log and (not damaged.exists() or damaged.stat().st_mtime < copied_at):
        return False
    for name in KEPT_FOR_EVER:
        keys = found[name].keys
        if keys is not None and any(key not in keys for key in _keys(db, tables[name])):
            return False
    newest = max((_moment(row) for one in found.values() for row in one.rows.values()), default=0.0)
    return newest >= max(_newest(db, table) for table in tables.values())


def _keys(db: sqlite3.Connection, table: Table) -> Iterable[Key]:
    return map(tuple, db.execute(f'SELECT {_quoted(table.key)} FROM "{table.name}"').fetchall())


def _newest(db: sqlite3.Connection, table: Table) -> float:
    times = [f'coalesce(max("{name}"), 0)' for name in TIMES if name in table.columns]
    return max(db.execute(f'SELECT {", ".join(times)} FROM "{table.name}"').fetchone()) if times else 0.0


def _moment(row: Mapping[str, Any]) -> float:
    """The last time that a row names, in seconds since 1970."""
    return max((float(row[name]) for name in TIMES if row.get(name) is not None), default=0.0)


def _delete(db: sqlite3.Connection, table: Table, found: Found, count: Count) -> None:
    """What was deleted after the copy was made."""
    if found.keys is None:
        return
    where = " AND ".join(f'"{name}" = ?' for name in table.key)
    for key in [key for key in _keys(db, table) if key not in found.keys]:
        with suppress(sqlite3.IntegrityError):
            count.deleted += db.execute(f'DELETE FROM "{table.name}" WHERE {where}', key).rowcount


def _put(db: sqlite3.Connection, table: Table, found: Found, count: Count, later: bool) -> None:
    derived = DERIVED.get(table.name, ())
    where = " AND ".join(f'"{name}" = ?' for name in table.key)
    here: dict[Key, Record] = {
        tuple(row[name] for name in table.key): dict(row) for row in db.execute(f'SELECT * FROM "{table.name}"')
    }
    count.copied = len(here)
    read = sorted([*found.rows.items(), *found.doubtful.items()], key=lambda item: found.places[item[0]])
    for key, row in read:
        row = {name: value for name, value in row.items() if name not in derived}
        if (old := here.get(key)) is None:
            marks = ", ".join("?" * len(row))
            sql = f'INSERT INTO "{table.name}" ({_quoted(row)}) VALUES ({marks})'
            changed, values = True, (*row.values(),)
        else:
            new = {name: value for name, value in row.items() if value != old[name]}
            if not new or key in found.doubtful:
                continue
            then, now = _moment(old), _moment(row)
            if then > now or (then == now and not later):
                count.unsure += then == now
                continue
            sql = (
                f'UPDATE "{table.name}" SET {", ".join(f"{chr(34)}{name}{chr(34)} = ?" for name in new)} WHERE {where}'
            )
            changed, values = False, (*new.values(), *key)
        try:
            db.execute(sql, values)
        except sqlite3.IntegrityError:
            count.unfit += 1
            continue
        count.added += changed
        count.newer += not changed
        count.copied -= not changed
    missed = len(found.known - {key for key, _ in read} - here.keys())
    count.unreadable = missed if found.keys is not None else max(found.cells, missed)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
