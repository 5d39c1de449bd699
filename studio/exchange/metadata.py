"""metadata.jsonl and metadata.csv: what a row says of a pair or of one picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from studio.csv_files import unquoted
from studio.exchange.sources import Member, Source, SourceError

NAMES = ("metadata.jsonl", "metadata.csv")
MAX_BYTES = 64 * 2**20
UNSAFE = ("unsafe_file_name", "unsafe", "unsafe_image", "rejected_file_name", "rejected")
SAFE = ("safe_file_name", "safe", "safe_image", "chosen_file_name", "chosen")
ONE = ("file_name", "file")
PROMPT = ("prompt", "text", "caption")
DECISIONS = ("accept", "reject")


@dataclass(frozen=True)
class Row:
    """One row: two files, unsafe and safe, or one; the prompts are those of the pair."""

    where: str  # "metadata.jsonl, line 3"
    files: tuple[str, ...] = ()
    unsafe_prompt: str = ""
    safe_prompt: str = ""
    own_prompt: str = ""  # of the one picture, whichever side it is
    decision: str = ""
    problem: str = ""


def is_metadata(name: str) -> bool:
    return PurePosixPath(name).name.lower() in NAMES


def read_rows(source: Source, file: Member) -> Iterator[Row]:
    """All rows; one that cannot be read carries its problem."""
    try:
        data = source.read(file, MAX_BYTES)
        if len(data) > MAX_BYTES:
            raise SourceError(f"It has more than {MAX_BYTES // 2**20} MiB. Bring the pairs in parts.")
        text = data.decode("utf-8-sig")
    except SourceError as error:
        yield Row(file.name, problem=str(error))
        return
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        yield Row(f"{file.name}, line {line}", problem="This is not UTF-8 text. Save the file as UTF-8.")
        return
    yield from _jsonl(file.name, text) if file.name.lower().endswith(".jsonl") else _csv(file.name, text)


def prompts_of(values: Mapping[str, Any]) -> tuple[str, str]:
    """Unsafe and safe prompt of a row; one that is given once ("prompt") is both."""
    both = _text(values, PROMPT)
    return _text(values, ("unsafe_prompt",)) or both, _text(values, ("safe_prompt",)) or both


def decision_of(values: Mapping[str, Any]) -> str:
    decision = _text(values, ("decision", "verdict"))
    return decision if decision in DECISIONS else ""


def _jsonl(name: str, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Row(where, problem=f"This is not JSON ({error}).")
            continue
        if isinstance(values, dict):
            yield _row(where, {str(key).lower(): value for key, value in values.items()})
        else:
            yield Row(where, problem='This is no row: write {"unsafe_file_name": "…", "safe_file_name": "…"}.')


def _csv(name: str, text: str) -> Iterator[Row]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        rows.fieldnames = [title.strip().lower() for title in rows.fieldnames or ()]
        for row in rows:
            yield _row(f"{name}, line {rows.line_num}", {key: unquoted(row[key] or "") for key in row if key})
    except csv.Error as error:
        yield Row(f"{name}, line {rows.line_num}", problem=f"{error}. Save the file as plain CSV.")


def _row(where: str, values: Mapping[str, Any]) -> Row:
    unsafe, safe, one = (_text(values, names) for names in (UNSAFE, SAFE, ONE))
    files = (unsafe, safe) if unsafe and safe else (one or unsafe,)
    if not files[0]:
        problem = f"It names no picture: give {UNSAFE[0]} and {SAFE[0]}, or {ONE[0]}."
        return Row(where, problem=problem)
    unsafe_prompt, safe_prompt = prompts_of(values)
    own = _text(values, PROMPT) or (safe_prompt if not unsafe_prompt else "")
    if len(files) == 1:  # a lone "prompt" is this picture's, and says nothing of its twin
        safe_prompt = _text(values, ("safe_prompt",))
        own = own or safe_prompt
    return Row(where, files, unsafe_prompt, safe_prompt, own, decision_of(values))


def _text(values: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of these that is a text, on one line as prompts are kept."""
    for name in names:
        if isinstance(value := values.get(name), str) and value.strip():
            return " ".join(value.split())
    return ""
