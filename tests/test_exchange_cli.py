"""`bring` and `take` in a shell, with a real worker on a random tiny checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from studio.cli import main
from studio.records import Project
from studio.settings import Settings
from studio.store import Store
from tests.bring_data import folder_of_pairs
from tests.curation_data import add_pairs


@pytest.fixture(autouse=True)
def settings(settings: Settings, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The shell's environment names an empty data folder and the tiny checkpoint."""
    settings = replace(settings, toybox=tiny_folder)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(settings.data / "nobody"))
    return settings


@pytest.mark.slow
def test_pairs_come_in_and_go_out_again(
    store: Store, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of_pairs(tmp_path / "mine", 3)
    (folder / "safe" / "1.png").write_text("<svg/>")
    (folder / "=1+1.png").write_bytes(b"")
    wrong = tmp_path / "wrong.csv"
    asked = ["bring", str(folder), "--project", "Sword", "--accept-as", "Ann", "--refused", str(wrong)]
    assert main(asked) == 0
    printed = capsys.readouterr().out
    assert "2 taken, 2 not taken" in printed
    assert "safe/1.png: It is SVG, HTML" in printed
    listed = [line.split(",")[0] for line in wrong.read_text(encoding="utf-8").splitlines()]
    assert listed == ["file", "'=1+1.png", "unsafe/1.png", "safe/1.png"]  # quoted: no spreadsheet runs it
    assert store.pair_counts(project.id).accepted == 2
    assert main(["take", str(tmp_path / "out.zip"), "--project", "Sword", "--form", "parquet"]) == 0
    assert "2 pairs are in" in capsys.readouterr().out
    assert main(["take", str(tmp_path / "out"), "--project", "Sword", "--no-names"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert [row["decided_by"] for row in rows] == ["reviewer 1", "reviewer 1"]
    assert {row[side] for row in rows for side in ("unsafe_source", "safe_source")} == {""}  # nor the files' names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bring", "nowhere", "--project", "Sword"], "nowhere does not exist"),
        (["bring", ".", "--project", "Sword", "--fit", "stretch"], "'stretch'"),
        (["take", "--project", "Sword"], "Name a folder, or a dataset with --push"),
        (["take", "out", "--project", "Sword", "--push", "a/b"], "Name a folder, or a dataset with --push"),
        (["take", "out", "--project", "Sword", "--form", "csv"], "--form is 'csv'"),
        (["take", "out", "--project", "Sword", "--which", "best"], "no selection 'best'"),
        (["take", "out", "--project", "Sword", "--which", "decided"], "No pair is accepted or rejected yet"),
        (["take", ".", "--project", "Sword", "--which", "all"], "not empty"),
    ],
)
def test_what_cannot_be_done_is_said(
    store: Store,
    settings: Settings,
    project: Project,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_pairs(store, settings, project, 1)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_a_push_without_a_token_says_so(
    store: Store, settings: Settings, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    add_pairs(store, settings, project, 1)
    assert main(["take", "--project", "Sword", "--which", "all", "--push", "ann/pairs"]) == 2
    assert "There is no Hugging Face token on this machine" in capsys.readouterr().err
    assert not settings.outgoing.exists()
