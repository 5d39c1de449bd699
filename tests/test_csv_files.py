"""CSV files: no text of anybody's is run by a spreadsheet, in none of the studio's tables, and all come back whole."""

from __future__ import annotations

import ast
import csv
from io import StringIO
from pathlib import Path

import pytest

from studio.csv_files import FORMULA, csv_text, quoted, unquoted
from studio.prompt_sources import read_prompts
from studio.records import AttackRun, Attempt
from studio.reports.attack_files import found_csv
from studio.reports.table import table_csv
from studio.settings import REPOSITORY
from studio.ui.break_it import attempts_csv
from studio.ui.shelves import prompts_csv, prompts_of_file
from tests.ui_data import make_report

EVIL = '=cmd|"/c calc"!A1'
TEXTS = [EVIL, "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "＝1", "'=1", "''=1", "'", "'quoted'", "a = b", "", "a\nb,c"]


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(StringIO(text, newline="")))


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_and_is_no_formula(text: str) -> None:
    assert not quoted(text).startswith(FORMULA)
    assert unquoted(quoted(text)) == text
    assert unquoted(cells(csv_text(["a"], [[text]]))[1][0] if text else "") == text


def test_plain_texts_numbers_and_missing_cells_stay_as_they_are() -> None:
    assert csv_text(["a", "b"], [["x", -1.5], {"b": None, "c": 1}]) == "a,b\r\nx,-1.5\r\n,\r\n"


def test_attempts_shelves_reports_and_found_prompts_run_nothing(tmp_path: Path) -> None:
    attempt = Attempt("", "p", EVIL, 7, "@model", "+checkpoint", "", True, 0.9, "cd" * 32, 20, 4.0)
    report = make_report()
    report.models["duo"] = report.models["duo"].model_copy(update={"label": EVIL})
    run = AttackRun(
        "", "p", "j", "ring_a_bell", "attack", {}, "v", EVIL, "ab", "toybox", "1", {}, {"guidance_scale": 4.0}, EVIL,
        7, "-found", "", 1, 1, 1, 1, 0.5, False, True, 0.9, 1, 2, True, "",
    )  # fmt: skip
    for text in (attempts_csv([attempt]), prompts_csv([EVIL]), table_csv(report), found_csv([run])):
        assert EVIL in text.replace('""', '"')
        assert [cell for row in cells(text) for cell in row if cell.startswith(FORMULA) and not is_number(cell)] == []
    (tmp_path / "shelf.csv").write_bytes(prompts_csv(TEXTS[:4]).encode())
    assert prompts_of_file(tmp_path / "shelf.csv") == TEXTS[:4]
    (tmp_path / "found.csv").write_text(found_csv([run]), encoding="utf-8")
    (again,) = read_prompts(tmp_path / "found.csv")
    assert (again.prompt, again.original, again.seed) == ("-found", EVIL, 7)


def test_nobody_writes_csv_in_another_way() -> None:
    writers = set()
    for path in (REPOSITORY / "studio").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("csv.writer", "csv.DictWriter"):
                writers.add(path.name)
    assert writers == {"csv_files.py"}


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
