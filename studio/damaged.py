"""What can still be read of a damaged database, table by table. Torch-free.

Each table is read from its tree and, where a page of the tree is broken, from the leaves that nothing leads to any
more, as far as their rows can be no other table's. Nothing is written.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from studio.database import JSON_TEXTS as RECORDED
from studio.sqlite_pages import INDEX_LEAF, TABLE_LEAF, DatabaseFile, Row, Tree, Value

TIMES = ("created", "started", "heartbeat", "stop_asked", "finished", "changed", "last_at")
LAST_TIME = 2.0**32  # in the year 2106
COMPUTED = ("pair_tallies",)  # by triggers
SCHEMA_TYPES = ("table", "index", "view", "trigger")
JSON_TEXTS = RECORDED | {"care_settings": ("settings",)}
Record = dict[str, Value]
Key = tuple[Value, ...]


@dataclass
class Table:
    """One table as it is now."""

    name: str
    columns: dict[str, tuple[str, bool, Any]]  # name to type, whether it must have a value, default
    key: tuple[str, ...]
    without_rowid: bool
    parents: set[str]


@dataclass
class Found:
    """What a damaged file has of one table."""

    rows: dict[Key, Record] = field(default_factory=dict)
    doubtful: dict[Key, Record] = field(default_factory=dict)  # of pages that may be old ones
    keys: set[Key] | None = None  # all that there are, where the index of keys is whole
    known: set[Key] = field(default_factory=set)  # those that its index has, whole or not
    places: dict[Key, int] = field(default_factory=dict)  # row numbers: the order of writing, which readers rely on
    pages: int = 0
    cells: int = 0


def tables_of(db: sqlite3.Connection) -> dict[str, Table]:
    """Parents before those that refer to them."""
    names = [row["name"] for row in db.execute("SELECT name, wr FROM pragma_table_list WHERE type = 'table'")]
    made = {}
    for name in names:
        if name.startswith(("sqlite_", "_")) or name in COMPUTED:
            continue
        columns = db.execute(f'PRAGMA table_info("{name}")').fetchall()
        made[name] = Table(
            name,
            {row["name"]: (row["type"], bool(row["notnull"] or row["pk"]), row["dflt_value"]) for row in columns},
            tuple(row["name"] for row in sorted(columns, key=lambda row: row["pk"]) if row["pk"]),
            bool(db.execute("SELECT wr FROM pragma_table_list WHERE name = ?", (name,)).fetchone()[0]),
            {row["table"] for row in db.execute(f'PRAGMA foreign_key_list("{name}")')} - {name},
        )
    order = TopologicalSorter({name: table.parents for name, table in sorted(made.items())}).static_order()
    return {name: made[name] for name in order}


def read_tables(file: DatabaseFile, tables: Mapping[str, Table]) -> dict[str, Found]:
    free = file.free_pages()
    leaves = _Leaves(file, free)
    schema = _schema(file, leaves)
    found, broken = {}, []
    for name, table in tables.items():
        root, columns = schema.get(name, (0, list(table.columns)))
        tree, keys = _tree(file, root), Tree()
        leaves.seen |= tree.pages
        found[name] = one = Found(pages=tree.unread, cells=tree.cells)
        _take(one.rows, table, columns, tree, one)
        if not table.without_rowid:
            keys = _tree(file, schema.get(f"sqlite_autoindex_{name}_1", (0, []))[0])
            one.known = {row.values[:-1] for row in keys.rows}
            one.keys = one.known if keys.is_whole else None
        if not tree.pages or tree.unread:
            broken.append(name)
    for index in schema:  # so that no leaf of another index is taken for rows
        if index not in tables and broken:
            leaves.seen |= _tree(file, schema[index][0]).pages
    for name in broken:
        table, one = tables[name], found[name]
        columns = schema.get(name, (0, list(table.columns)))[1]
        for tree in leaves.of(table, columns, [tables[other] for other in broken if other != name]):
            into: dict[Key, Record] = {}
            _take(into, table, columns, tree, one)
            kept = one.rows if free is not None else one.doubtful
            kept |= {key: row for key, row in into.items() if key not in one.rows}
    for one in found.values():
        if one.keys is not None:  # what is in no index was deleted, or is no row
            one.rows = {key: row for key, row in one.rows.items() if key in one.keys}
            one.doubtful = {key: row for key, row in one.doubtful.items() if key in one.keys}
    return found


def _tree(file: DatabaseFile, root: int) -> Tree:
    return file.tree(root) if root > 0 else Tree()


class _Leaves:
    """Leaves that no tree leads to: of tables whose root or inner pages are broken, and old ones."""

    def __init__(self, file: DatabaseFile, free: set[int] | None) -> None:
        self.file, self.seen = file, set(free or ())
        self._first: dict[int, dict[int, Row]] = {}  # kind of page to number to its first row

    def all(self, kind: int) -> Iterator[tuple[int, Row]]:
        """Their numbers, and the first row of each."""
        if kind not in self._first:
            unseen = (number for number in range(1, len(self.file) + 1) if number not in self.seen)
            read = ((number, self.file.leaf(number, kind)) for number in unseen)
            self._first[kind] = {number: tree.rows[0] for number, tree in read if tree is not None and tree.rows}
        return ((number, row) for number, row in list(self._first[kind].items()) if number not in self.seen)

    def of(self, table: Table, columns: list[str], others: list[Table]) -> Iterator[Tree]:
        """Those whose rows are this table's and can be no other's."""
        kind = INDEX_LEAF if table.without_rowid else TABLE_LEAF
        rivals = [one for one in others if one.without_rowid == table.without_rowid]
        for number, first in self.all(kind):
            if _record(table, columns, first.values) is None:
                continue
            tree = self.file.leaf(number, kind) or Tree()
            if all(_record(table, columns, row.values) for row in tree.rows) and not any(
                all(_record(one, list(one.columns), row.values) for row in tree.rows) for one in rivals
            ):
                self.seen.add(number)
                yield tree


def _schema(file: DatabaseFile, leaves: _Leaves) -> dict[str, tuple[int, list[str]]]:
    """Table or index to (root page, columns), as the file itself says."""
    tree = file.tree(1)
    leaves.seen |= tree.pages
    rows = [row.values for row in tree.rows]
    if not tree.is_whole:
        pages = [number for number, row in leaves.all(TABLE_LEAF) if row.values[0] in SCHEMA_TYPES]
        rows += [row.values for number in pages for row in (file.leaf(number, TABLE_LEAF) or Tree()).rows]
    found: dict[str, tuple[int, list[str]]] = {}
    for row in rows:
        if len(row) == 5 and row[0] in SCHEMA_TYPES[:2] and isinstance(row[3], int):
            found.setdefault(str(row[1]), (row[3], _columns(str(row[4])) if row[0] == "table" else []))
    return found


def _columns(sql: str) -> list[str]:
    with closing(sqlite3.connect(":memory:")) as db, suppress(sqlite3.Error):
        db.execute(sql)
        (name,) = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchone()
        return [row[1] for row in db.execute(f'PRAGMA table_info("{name}")')]
    return []


def _take(into: dict[Key, Record], table: Table, columns: list[str], tree: Tree, found: Found) -> None:
    for row in tree.rows:
        record = _record(table, columns or list(table.columns), row.values)
        if record is None:
            found.cells += 1
        else:
            key = tuple(record[name] for name in table.key)
            into[key] = record
            found.places.setdefault(key, row.rowid or 0)


def _record(table: Table, columns: list[str], values: tuple[Value, ...]) -> Record | None:
    """The row by its columns' names; None where it cannot be one of this table. Later columns may be missing."""
    if not len(table.key) < len(values) <= len(columns):
        return None
    record = {name: value for name, value in zip(columns, values, strict=False) if name in table.columns}
    for name, (kind, needed, default) in table.columns.items():
        if name not in record:
            if needed and default is None:
                return None
        elif not _fits(record[name], kind, needed) or (name in TIMES and not _is_time(record[name])):
            return None
    for name in JSON_TEXTS.get(table.name, ()):
        try:
            if not isinstance(json.loads(str(record.get(name, "{}"))), dict):
                return None
        except ValueError:
            return None
    return record


def _fits(value: Value, kind: str, needed: bool) -> bool:
    if value is None:
        return not needed
    if kind == "TEXT":
        return isinstance(value, str) and "\0" not in value
    return isinstance(value, int) or (kind == "REAL" and isinstance(value, float))


def _is_time(value: Value) -> bool:
    """Whether it can be one. A clock that was ahead for a while is no reason to lose what was decided meanwhile."""
    return value is None or (isinstance(value, int | float) and 0 <= value <= LAST_TIME)
