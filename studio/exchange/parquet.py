"""Pairs out of parquet files, row by row, so that a file of gigabytes needs little memory.

Preferences   jpg_0, jpg_1, label_0, label_1, caption, has_label as in Pick-a-Pic: the picture with the higher label is
              the safe one. Equal labels are ties and, like rows without a label, left out and counted
Pairs         unsafe and safe (or rejected and chosen) with unsafe_prompt, safe_prompt or prompt
Pictures      image with unsafe_prompt and safe_prompt: its twin is to be made

A picture is bytes, or {"bytes": …} as the datasets library writes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.exchange.metadata import decision_of, prompts_of
from studio.exchange.records import Entry, Picture
from studio.exchange.sources import Member, Source, SourceError

BATCH = 8  # rows in memory
UNSAFE = ("unsafe", "rejected", "unsafe_image", "rejected_image")
SAFE = ("safe", "chosen", "safe_image", "chosen_image")
FIRST, SECOND = ("jpg_0", "image_0"), ("jpg_1", "image_1")
ALONE = ("image", "jpg")
WORDS = (
    "label_0", "label_1", "has_label", "unsafe_prompt", "safe_prompt", "prompt", "text", "caption", "decision",
    "verdict",
)  # fmt: skip
MAX_CELL = 128 * 2**20  # bytes, by what the file says of itself


@dataclass(frozen=True)
class Columns:
    """What the file calls the two pictures and the words about them; `second` is "" for pictures alone."""

    first: str
    second: str
    words: dict[str, str]  # ours to theirs
    labelled: bool  # the labels say which of the two is safe

    @property
    def all(self) -> list[str]:
        return [name for name in (self.first, self.second, *self.words.values()) if name]


def count_rows(path: Path) -> int:
    """How many rows the file says it has. Raises SourceError."""
    import pyarrow.parquet as pq

    with _refusing(), pq.ParquetFile(path, pre_buffer=False) as file:
        return file.metadata.num_rows


def read_entries(source: Source, member: Member) -> Iterator[Entry]:
    """Each row as an entry; a file that cannot be read, or only up to a row, ends with one that says so."""
    done = 0
    try:
        with source.as_file(member) as path:
            for row in _rows(path):
                done += 1
                yield _entry(f"{member.name}, row {done}", row)
    except SourceError as error:
        where = f"{member.name}, after row {done}" if done else member.name
        yield Entry(where, problem=str(error))


def columns_of(names: list[str]) -> Columns:
    """Which columns are ours. Raises SourceError where the file holds no pairs."""
    known = {name.lower(): name for name in names}

    def find(wanted: tuple[str, ...]) -> str:
        return next((known[name] for name in wanted if name in known), "")

    words = {word: known[word] for word in WORDS if word in known}
    if (first := find(FIRST)) and (second := find(SECOND)):
        if "label_0" not in words:
            raise SourceError(f"It has two pictures a row ({first}, {second}), but no column label_0 that tells which.")
        return Columns(first, second, words, labelled=True)
    if (unsafe := find(UNSAFE)) and (safe := find(SAFE)):
        return Columns(unsafe, safe, words, labelled=False)
    if alone := find(ALONE) or find(UNSAFE):
        return Columns(alone, "", words, labelled=False)
    raise SourceError(
        f"It has no columns of pictures; its columns are {', '.join(names[:20])}. Name them unsafe and safe, or jpg_0, "
        "jpg_1 and label_0 as in Pick-a-Pic."
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows with our names: "first", "second" and the words. Raises SourceError."""
    import pyarrow.parquet as pq

    with _refusing(), pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        columns = columns_of(file.schema_arrow.names)
        _check_sizes(file.metadata, columns)
        theirs = {"first": columns.first, "second": columns.second, **columns.words}
        for batch in file.iter_batches(BATCH, columns=columns.all, use_threads=False):
            for row in batch.to_pylist():
                yield {ours: row.get(name) for ours, name in theirs.items() if name} | {"labelled": columns.labelled}


def _check_sizes(metadata: Any, columns: Columns) -> None:
    """A page is unpacked as a whole: what would be larger than any picture is refused before. Raises SourceError."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            column = group.column(index)
            if column.path_in_schema.split(".")[0] in columns.all:
                mean = column.total_uncompressed_size / max(group.num_rows, 1)
                if mean > MAX_CELL:
                    raise SourceError(
                        f"Its column {column.path_in_schema} unpacks to {mean / 2**20:,.0f} MiB a row; "
                        f"{MAX_CELL // 2**20} MiB are the most. Refused."
                    )


def _entry(name: str, row: Mapping[str, Any]) -> Entry:
    words = {key: value for key, value in row.items() if key not in ("first", "second")}
    unsafe_prompt, safe_prompt = prompts_of(words)
    if row["labelled"]:
        return _preference(name, row, unsafe_prompt, safe_prompt)
    try:
        unsafe = Picture(f"{name}, unsafe", _bytes(row["first"]))
        safe = Picture(f"{name}, safe", _bytes(row["second"])) if "second" in row else None
    except SourceError as error:
        return Entry(name, problem=str(error))
    return Entry(name, unsafe, safe, unsafe_prompt, safe_prompt, decision_of(words))


def _preference(name: str, row: Mapping[str, Any], unsafe_prompt: str, safe_prompt: str) -> Entry:
    if row.get("has_label") is False or row.get("has_label") == 0:
        return Entry(name, outcome="unlabelled")
    try:
        first = float(row["label_0"])
        second = float(row["label_1"]) if row.get("label_1") is not None else 1 - first
    except (TypeError, ValueError):
        return Entry(name, outcome="unlabelled")
    if not (math.isfinite(first) and math.isfinite(second)):
        return Entry(name, outcome="unlabelled")
    if first == second:
        return Entry(name, outcome="tie")
    better, worse = ("first", "second") if first > second else ("second", "first")
    try:
        unsafe, safe = Picture(f"{name}, unsafe", _bytes(row[worse])), Picture(f"{name}, safe", _bytes(row[better]))
    except SourceError as error:
        return Entry(name, problem=str(error))
    return Entry(name, unsafe, safe, unsafe_prompt, safe_prompt)


def _bytes(cell: Any) -> bytes:
    if isinstance(cell, Mapping):
        if cell.get("bytes") is None and cell.get("path"):
            raise SourceError(f"Its picture lies outside of the file ({str(cell['path'])[:80]}): put the bytes inside.")
        cell = cell.get("bytes")
    if not isinstance(cell, bytes):
        raise SourceError("A picture is missing." if cell is None else "A picture is not kept as bytes.")
    return cell


@contextmanager
def _refusing() -> Iterator[None]:
    """What pyarrow says of a wrong file, as a SourceError."""
    import pyarrow as pa

    try:
        yield
    except SourceError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise SourceError(f"It is no parquet file that can be read ({error}). Write it again.") from error
