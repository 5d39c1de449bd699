"""Prompt pairs in files: CSV, JSONL, and the config.json of the DUO repository. Torch-free; for page and shell alike.

CSV      a first line that names the columns unsafe, safe and, where wanted, count, seed and group
JSONL    one object a line: {"unsafe": "…", "safe": "…", "count": 1, "seed": 0, "group": "…"}
JSON     {"Gun": {"prompt": ["…"], "base_prompt": ["…"]}}: unsafe and safe prompts, a text or a list of texts.
         A text is one prompt; equal pairs of a list become one pair with a count; the name is their group
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from studio.csv_files import csv_text, unquoted
from studio.prompt_checks import Checked, Draft, check, prompts_of
from studio.prompt_sources import PromptFileError
from studio.records import PromptPair

COLUMNS = ("unsafe", "safe", "count", "seed", "group")
ROW_LIMIT = 10_000
SHOWN_PROBLEMS = 5


def read_prompts(path: Path, existing: Iterable[PromptPair] = ()) -> list[PromptPair]:
    """The prompt pairs of a file that `existing` lacks. Raises PromptFileError if a single row is wrong."""
    checked = check(read_drafts(path.name, path.read_bytes()), list(existing))
    if wrong := [one for one in checked if one.problem and not one.known]:
        more = f"\n… and {len(wrong) - SHOWN_PROBLEMS} more." if len(wrong) > SHOWN_PROBLEMS else ""
        raise PromptFileError("\n".join(map(in_words, wrong[:SHOWN_PROBLEMS])) + more)
    return prompts_of(checked)


def in_words(checked: Checked) -> str:
    """ "prompts.csv, line 3: The safe prompt is empty: …"."""
    where = checked.draft.where
    return f"{where}: {checked.problem}" if where else checked.problem


def read_drafts(name: str, data: bytes) -> list[Draft]:
    """The rows of a file, not yet checked; a row that cannot be read carries its problem.

    Raises PromptFileError where the file as a whole cannot be read.
    """
    kind = Path(name).suffix.lower()
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _config}
    if kind not in readers:
        raise PromptFileError(f"{name} is no file of prompts: use .csv, .jsonl, or the DUO repository's config.json.")
    drafts = list(readers[kind](name, _text(name, data)))
    if not drafts:
        raise PromptFileError(f"{name} holds no prompts.")
    if len(drafts) > ROW_LIMIT:
        raise PromptFileError(f"{name} has {len(drafts):,} rows; split it into files of {ROW_LIMIT:,} or fewer.")
    return drafts


def write_csv(pairs: Iterable[PromptPair]) -> str:
    """A CSV file that `read_drafts` reads back."""
    return csv_text(COLUMNS, ([getattr(pair, name) for name in COLUMNS] for pair in pairs))


def write_jsonl(pairs: Iterable[PromptPair]) -> str:
    rows = ({name: getattr(pair, name) for name in COLUMNS} for pair in pairs)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptFileError(f"{name}, line {line}: this is not UTF-8 text. Save the file as UTF-8.") from None


def _csv(name: str, text: str) -> Iterator[Draft]:
    header = text.lstrip().partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), skipinitialspace=True)
    try:
        rows.fieldnames = [title.strip().lower() for title in rows.fieldnames or ()]
        if missing := {"unsafe", "safe"} - set(rows.fieldnames):
            raise PromptFileError(f"{name} has no column {', '.join(sorted(missing))}: its first line must name them.")
        for row in rows:
            where = f"{name}, line {rows.line_num}"
            if None in row:  # cells beyond the header's
                yield Draft(
                    where=where, problem='There are more cells than columns: put "…" around prompts with commas.'
                )
            else:
                yield _draft({title: unquoted(row[title] or "") for title in COLUMNS if title in row}, where)
    except csv.Error as error:
        raise PromptFileError(f"{name}, line {rows.line_num}: {error}. Save the file as plain CSV.") from None


def _jsonl(name: str, text: str) -> Iterator[Draft]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problem = f'This is not JSON ({error}): write {{"unsafe": "…", "safe": "…"}} on one line.'
            yield Draft(where=where, problem=problem)
            continue
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("unsafe", "safe")):
            yield Draft(where=where, problem='This is no pair: write {"unsafe": "…", "safe": "…"}, both texts.')
            continue
        yield _draft(row, where)


def _config(name: str, text: str) -> Iterator[Draft]:
    """The DUO repository's config.json: concepts, each with its unsafe ("prompt") and safe ("base_prompt") prompts."""
    try:
        concepts = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise PromptFileError(
            f"{name}, line {line}: this is not JSON ({error}). For one object a line, use .jsonl."
        ) from None
    if not isinstance(concepts, dict):
        raise PromptFileError(
            f"{name} is no config.json of the DUO repository, which is "
            '{"concept": {"prompt": …, "base_prompt": …}}. For one object a line, use .jsonl.'
        )
    for concept, entry in concepts.items():
        at = text.find(json.dumps(concept, ensure_ascii=False))
        where = f"{name}, line {text.count(chr(10), 0, max(at, 0)) + 1} ({concept})"
        try:
            unsafe, safe = _texts(entry, "prompt"), _texts(entry, "base_prompt")
            pairs = Counter(zip(unsafe, safe, strict=True))
        except TypeError as error:
            yield Draft(where=where, problem=str(error))
        except ValueError:
            problem = (
                f"There are {len(unsafe)} prompts and {len(safe)} base prompts: give as many of one as of the other."
            )
            yield Draft(where=where, problem=problem)
        else:
            for (bad, good), count in pairs.items():
                yield Draft(bad, good, str(count), group=concept, where=where)


def _texts(entry: Any, key: str) -> list[str]:
    """The prompts under a key: one text, or a list of texts. Raises TypeError."""
    found = entry.get(key) if isinstance(entry, dict) else None
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"“{key}” is missing or no text: write a text or a list of texts.")
    return texts


def _draft(row: dict[str, Any], where: str) -> Draft:
    values = {key: "" if row.get(key) is None else str(row[key]) for key in COLUMNS}
    return Draft(**values, where=where)
