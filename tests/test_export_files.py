"""Folders of exports: whole or not there, nothing overwritten, and the disk asked first."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.export_files import MARGIN, ExportError, gigabytes, require_space, slug, whole_folder


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model"
    with whole_folder(target) as folder:
        (folder / "unet").mkdir()
        (folder / "unet" / "a.txt").write_text("a")
        (folder / "unet" / "a.txt").chmod(0o600)  # as safetensors writes its files
        assert folder.parent == target.parent, "on the same disk, so that it can be renamed"
        assert not target.exists()
    assert (target / "unet" / "a.txt").read_text() == "a"
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    assert [oct(path.stat().st_mode & 0o777) for path in (target, target / "unet" / "a.txt")] == ["0o755", "0o644"]


def test_what_a_killed_try_left_goes_first(tmp_path: Path) -> None:
    for name in (".model.abcdefgh.part", ".model-2.abcdefgh.part", "model.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("half")
    with whole_folder(tmp_path / "model"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model-2.abcdefgh.part", "model", "model.part"]


def test_names_that_every_system_takes() -> None:
    assert [slug(text, "duo") for text in ("DUO (2)", "../../etc", "Ünï", "剣", "a" * 80)] == [
        "duo-2", "etc", "n", "duo", "a" * 60,
    ]  # fmt: skip


def test_what_breaks_leaves_nothing(tmp_path: Path) -> None:
    def break_off() -> None:
        with whole_folder(tmp_path / "model") as folder:
            (folder / "a.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "empty") as folder:
        (folder / "a.txt").write_text("a")
    for taken in (tmp_path / "empty", tmp_path / "empty" / "a.txt"):
        with pytest.raises(ExportError, match=r"is there already\. Choose a folder"), whole_folder(taken):
            pass
    assert (tmp_path / "empty" / "a.txt").read_text() == "a"


def test_a_full_disk_is_noticed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_space(tmp_path / "not" / "yet" / "there", 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2 * 10**9 + MARGIN))
    require_space(tmp_path, 2 * 10**9)
    with pytest.raises(ExportError, match=r"needs 2\.2 GB, but only 2\.1 GB are free at .*choose float16"):
        require_space(tmp_path / "there", 2 * 10**9 + 10**8)


def test_sizes_in_words() -> None:
    assert [gigabytes(n) for n in (0, 5e5, 3.4e9, 12e6, 23.4e9)] == ["0 kB", "500 kB", "3.4 GB", "12 MB", "23 GB"]
