"""The one way CSV files are written, and what is undone when they are read again. Torch-free.

A spreadsheet runs a cell that begins like a formula, and prompts, names and file names come from anybody: such a text
gets a quote in front, which spreadsheets do not show. Numbers stay as they are, negative ones too.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # OWASP's list; the wide ones run too


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any] | Mapping[str, Any]]) -> str:
    """A head and a line a row; of a mapping the named columns, "" for those it lacks. None is ""."""
    text = StringIO(newline="")
    table = csv.writer(text)  # whose line end, \r\n, makes it put both letters in quotes wherever else they stand
    table.writerow(columns)
    for row in rows:
        cells = [row.get(name, "") for name in columns] if isinstance(row, Mapping) else row
        table.writerow([quoted(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()


def quoted(text: str) -> str:
    """A text as a cell that no spreadsheet runs. Quotes of its own are doubled, so that `unquoted` gives it back."""
    return "'" + text if text.lstrip("'").startswith(FORMULA) else text


def unquoted(cell: str) -> str:
    """The text of a cell that `quoted` wrote; any other cell as it is."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell
