"""Files that are whole or not there."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from models.files import is_temporary, write_atomically


@pytest.mark.parametrize("sync", [True, False])
def test_write_replaces_the_file_and_makes_its_folder(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "new" / "file"
    for data in (b"old", b"newer"):
        write_atomically(path, data, sync=sync)
    assert path.read_bytes() == b"newer"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_writer_leaves_can_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", killed)
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "adapter.safetensors", b"half")
    (left,) = tmp_path.iterdir()
    assert is_temporary(left)
    assert is_temporary(Path(".adapter.safetensors.x1_y2z3w"))  # of an earlier version
    for name in ("adapter.safetensors", ".gitignore", ".hidden.png", "report.json.x1_y2z3w"):
        assert not is_temporary(Path(name))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    text: Any = "not bytes"
    with pytest.raises(TypeError):
        write_atomically(path, text)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"old"]
