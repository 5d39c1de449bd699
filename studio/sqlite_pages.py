"""Pages, trees and rows of an SQLite file that SQLite itself refuses to read. https://www.sqlite.org/fileformat2.html

Whatever is broken is passed over and told: a page that is not what it should be, a cell that leads outside of it, a
chain of overflow pages that ends too early. Nothing is written. Pages have no checksums, so bytes that were changed
inside a text cannot be seen here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

MAGIC = b"SQLite format 3\0"
FIRST_BYTES = 100  # of page 1, before its tree
TABLE_LEAF, TABLE_INSIDE, INDEX_LEAF, INDEX_INSIDE = 0x0D, 0x05, 0x0A, 0x02
DEEPEST = 20  # of a tree; more is a circle
LONGEST = 2**30  # bytes of a row
WAL_HEAD, FRAME_HEAD = 32, 24
Value = None | int | float | str | bytes


class BrokenError(ValueError):
    """Bytes that are not what the format says."""


class Row(NamedTuple):
    rowid: int | None  # None in a table without row numbers, and in an index
    values: tuple[Value, ...]


@dataclass
class Tree:
    """What could be read of a table or an index."""

    rows: list[Row] = field(default_factory=list)  # in the order of its keys
    pages: set[int] = field(default_factory=set)
    unread: int = 0  # pages that could not be read, with all that hangs below
    cells: int = 0  # … and rows on pages that could

    @property
    def is_whole(self) -> bool:
        return bool(self.pages) and not self.unread and not self.cells


class DatabaseFile:
    """One moment of a file, with what lies in its write-ahead log. `page_size` is used where its first page is gone."""

    def __init__(self, path: Path, page_size: int = 4096) -> None:
        self._data = path.read_bytes() if path.exists() else b""
        self.has_head = self._data.startswith(MAGIC) and self._data[16:18] != b"\0\0"
        told = int.from_bytes(self._data[16:18]) if self.has_head else 0
        self.page_size = 65536 if told == 1 else told if told >= 512 and told & (told - 1) == 0 else page_size
        log = path.with_name(path.name + "-wal")
        self._logged = dict(_logged_pages(log.read_bytes(), self.page_size)) if log.exists() else {}
        first = self.page(1)
        self.has_head = first is not None and first.startswith(MAGIC)
        self.usable = self.page_size - (first[20] if first is not None and self.has_head else 0)

    @property
    def has_log(self) -> bool:
        return bool(self._logged)

    def __len__(self) -> int:
        return max(len(self._data) // self.page_size, *self._logged, 0)

    def page(self, number: int) -> bytes | None:
        """The bytes of a page, counted from 1; None beyond the end."""
        if (logged := self._logged.get(number)) is not None:
            return logged
        page = self._data[(number - 1) * self.page_size : number * self.page_size] if number > 0 else b""
        return page if len(page) == self.page_size else None

    def tree(self, root: int) -> Tree:
        """All that can be read from a root on."""
        found = Tree()
        self._walk(root, found, 0)
        return found

    def leaf(self, number: int, kind: int) -> Tree | None:
        """The rows of one leaf of this kind, or None where the page is something else."""
        page = self.page(number)
        if page is None or page[FIRST_BYTES if number == 1 else 0] != kind:
            return None
        found = Tree()
        try:
            for cell in self._cells(number, page):
                self._read(page, cell, kind, found)
        except BrokenError:
            return None
        return found

    def free_pages(self) -> set[int] | None:
        """The pages that hold nothing any more; None where their list cannot be read."""
        first = self.page(1)
        if first is None or not self.has_head:
            return None
        trunk, count = struct.unpack(">II", first[32:40])
        free: set[int] = set()
        while trunk:
            page = self.page(trunk)
            if page is None or trunk in free:
                return None
            free.add(trunk)
            trunk, number = struct.unpack(">II", page[:8])
            if number > self.page_size // 4 - 2:
                return None
            free.update(struct.unpack(f">{number}I", page[8 : 8 + 4 * number]))
        return free if len(free) == count else None

    def _walk(self, number: int, found: Tree, depth: int) -> None:
        page = self.page(number)
        start = FIRST_BYTES if number == 1 else 0
        kinds = (TABLE_LEAF, TABLE_INSIDE, INDEX_LEAF, INDEX_INSIDE)
        if page is None or page[start] not in kinds or number in found.pages or depth > DEEPEST:
            found.unread += 1
            return
        try:
            cells = list(self._cells(number, page))
        except BrokenError:
            found.unread += 1
            return
        found.pages.add(number)
        kind = page[start]
        for cell in cells:
            if kind in (TABLE_INSIDE, INDEX_INSIDE):
                self._walk(int.from_bytes(page[cell : cell + 4]), found, depth + 1)
            if kind != TABLE_INSIDE:
                self._read(page, cell + 4 * (kind == INDEX_INSIDE), kind, found)
        if kind in (TABLE_INSIDE, INDEX_INSIDE):
            self._walk(int.from_bytes(page[start + 8 : start + 12]), found, depth + 1)

    def _cells(self, number: int, page: bytes) -> Iterator[int]:
        """Where the cells of a page begin. Raises BrokenError where that cannot be."""
        start = FIRST_BYTES if number == 1 else 0
        count = int.from_bytes(page[start + 3 : start + 5])
        first = start + (12 if page[start] in (TABLE_INSIDE, INDEX_INSIDE) else 8)
        if first + 2 * count > self.usable:
            raise BrokenError(f"page {number} says that it has {count} cells")
        for (cell,) in struct.iter_unpack(">H", page[first : first + 2 * count]):
            if not first + 2 * count <= cell <= self.usable - 4:
                raise BrokenError(f"a cell of page {number} lies at {cell}")
            yield cell

    def _read(self, page: bytes, cell: int, kind: int, found: Tree) -> None:
        try:
            size, at = _varint(page, cell)
            rowid = None
            if kind == TABLE_LEAF:
                number, at = _varint(page, at)
                rowid = number - 2**64 if number >= 2**63 else number
            found.rows.append(Row(rowid, _values(self._payload(page, at, size, kind))))
        except (BrokenError, IndexError, struct.error, UnicodeDecodeError):
            found.cells += 1

    def _payload(self, page: bytes, at: int, size: int, kind: int) -> bytes:
        """The bytes of a row, those on overflow pages too."""
        usable = self.usable
        most = usable - 35 if kind == TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        if size <= most:
            if at + size > usable:
                raise BrokenError("a row leads out of its page")
            return page[at : at + size]
        if size > LONGEST:
            raise BrokenError(f"a row of {size} bytes")
        least = (usable - 12) * 32 // 255 - 23
        here = least + (size - least) % (usable - 4)
        here = here if here <= most else least
        parts, left = [page[at : at + here]], size - here
        following = int.from_bytes(page[at + here : at + here + 4])
        seen: set[int] = set()
        while left > 0:
            more = self.page(following)
            if more is None or following in seen:
                raise BrokenError("a row ends too early")
            seen.add(following)
            parts.append(more[4 : 4 + min(left, usable - 4)])
            left -= usable - 4
            following = int.from_bytes(more[:4])
        if following:
            raise BrokenError("a row goes on after its end")
        return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, where the next one begins): seven bits a byte, eight of the ninth."""
    number = 0
    for place in range(8):
        byte = data[at + place]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, at + place + 1
    return number << 8 | data[at + 8], at + 9


def _values(record: bytes) -> tuple[Value, ...]:
    head, at = _varint(record, 0)
    if head > len(record):
        raise BrokenError("a row's head is longer than the row")
    kinds = []
    while at < head:
        kind, at = _varint(record, at)
        kinds.append(kind)
    values: list[Value] = []
    for kind in kinds:
        if kind in (10, 11):
            raise BrokenError(f"a value of type {kind}")
        size = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind] if kind < 10 else (kind - 12) // 2
        part = record[at : at + size]
        if len(part) != size:
            raise BrokenError("a value leads out of its row")
        at += size
        values.append(_value(kind, part))
    if at != len(record):
        raise BrokenError("a row is longer than its values")
    return tuple(values)


def _value(kind: int, part: bytes) -> Value:
    if kind == 0:
        return None
    if kind == 7:
        return float(struct.unpack(">d", part)[0])
    if kind < 10:
        return kind - 8 if kind >= 8 else int.from_bytes(part, signed=True)
    return part.decode() if kind % 2 else part


def _logged_pages(log: bytes, page_size: int) -> Iterator[tuple[int, bytes]]:
    """The pages of a write-ahead log, each as its last whole transaction left it; later ones come later."""
    if len(log) < WAL_HEAD or log[:4] not in (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"):
        return
    words = ">{}I" if log[3] & 1 else "<{}I"
    if int.from_bytes(log[8:12]) != page_size:
        return
    salt, sums = log[16:24], _checksum(log[:24], (0, 0), words)
    if sums != struct.unpack(">II", log[24:32]):
        return
    waiting: list[tuple[int, bytes]] = []
    for at in range(WAL_HEAD, len(log) - FRAME_HEAD - page_size + 1, FRAME_HEAD + page_size):
        head, page = log[at : at + FRAME_HEAD], log[at + FRAME_HEAD : at + FRAME_HEAD + page_size]
        sums = _checksum(page, _checksum(head[:8], sums, words), words)
        if head[8:16] != salt or sums != struct.unpack(">II", head[16:24]):
            return
        waiting.append((int.from_bytes(head[:4]), page))
        if int.from_bytes(head[4:8]):  # the last frame of a transaction
            yield from waiting
            waiting = []


def _checksum(data: bytes, sums: tuple[int, int], words: str) -> tuple[int, int]:
    one, two = sums
    numbers = iter(struct.unpack(words.format(len(data) // 4), data))
    for number in numbers:
        one = one + number + two & 0xFFFFFFFF
        two = two + next(numbers) + one & 0xFFFFFFFF
    return one, two
