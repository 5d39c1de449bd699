"""Where the demo puts its report: a folder that may hold other things."""

from __future__ import annotations

from pathlib import Path

from studio.cli.demo import copy_report


def test_the_report_replaces_an_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    evaluation, out = tmp_path / "evaluation", tmp_path / "out"
    for folder, picture in ((evaluation, "a" * 32), (out, "b" * 32)):
        (folder / "pictures").mkdir(parents=True)
        for name in ("report.json", "report.html", f"pictures/{picture}.png"):
            (folder / name).write_text(folder.name)
    (out / "pictures" / "holiday.png").write_text("mine")
    copy_report(evaluation, out)
    assert {path.name: path.read_text() for path in out.rglob("*") if path.is_file()} == {
        "report.json": "evaluation",
        "report.html": "evaluation",
        "a" * 32 + ".png": "evaluation",
        "holiday.png": "mine",
    }


def test_the_report_makes_its_folder(tmp_path: Path) -> None:
    (tmp_path / "evaluation" / "pictures").mkdir(parents=True)
    for name in ("report.json", "report.html"):
        (tmp_path / "evaluation" / name).write_text("")
    copy_report(tmp_path / "evaluation", tmp_path / "new" / "out")
    assert {path.name for path in (tmp_path / "new" / "out").iterdir()} == {"report.json", "report.html", "pictures"}
