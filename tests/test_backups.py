"""What becomes of the database when it is damaged, and how files of earlier versions come up."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database

from studio.backups import DAY, KEPT, BackupError, BackupWatch, back_up, list_backups, missing_files, repair
from studio.cli import main
from studio.migrations import migrations
from studio.records import ImagePair, Job, Project, PromptPair, Verdict
from studio.settings import Settings
from studio.store import Store, integrity_of


@pytest.fixture
def pair(store: Store, project: Project) -> ImagePair:
    (prompt,) = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener")])
    return store.add_image_pair(ImagePair("", project.id, prompt.id, 0, 1, "ready", "ab" * 32, "cd" * 32))


def damage(settings: Settings, start: int = 0, data: bytes = b"x" * 200) -> None:
    """Write over a place of the database, whose log was put into it first."""
    with sqlite3.connect(settings.database) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    with settings.database.open("r+b") as file:
        file.seek(start)
        file.write(data)


def test_a_copy_is_whole_while_others_write_and_old_ones_go(
    settings: Settings, store: Store, project: Project, pair: ImagePair
) -> None:
    with store.transaction():
        store.add_verdict(Verdict("", pair.id, "Ann", "accept"))
        made = back_up(settings, now=0.0)
    assert integrity_of(made) == []
    copied = Store(made)
    assert copied.list_projects() == [project]
    assert copied.list_verdicts(project.id) == [], "the transaction had not ended"
    copied.close()
    for day in range(1, KEPT + 3):
        back_up(settings, now=day * DAY)
    assert next(path.name[:15] for path in list_backups(settings)) == f"studio-197001{KEPT + 3:02d}"
    assert len(list_backups(settings)) == KEPT


def test_one_copy_a_day(settings: Settings, store: Store) -> None:
    import time

    watch, now = BackupWatch(settings), time.time()
    assert watch.tick(now) is not None
    assert watch.tick(now + 60) is None
    assert watch.tick(now + DAY + 60) is not None


def test_a_damaged_database_comes_back_and_no_verdict_that_can_be_read_is_lost(
    settings: Settings, store: Store, project: Project, pair: ImagePair, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    store.add_verdict(Verdict("", pair.id, "Ann", "accept"))
    back_up(settings)
    later = store.add_verdict(Verdict("", pair.id, "Ben", "reject", "late"))
    store.create_job(Job("", project.id, "pairs", {}))
    with sqlite3.connect(settings.database) as db:
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    store.close()
    damage(settings, (root - 1) * size)
    assert integrity_of(settings.database) != []
    monkeypatch.setenv("DUO_STUDIO_DATA", str(settings.data))
    assert main(["doctor"]) == 1
    assert "is damaged" in " ".join(capsys.readouterr().out.split())
    main(["doctor", "--repair"])
    assert "1 later verdicts were saved" in capsys.readouterr().out
    again = Store(settings.database)
    assert [one.reason for one in again.list_verdicts(project.id)] == ["", "late"]
    assert again.list_verdicts(project.id)[-1].id == later.id
    assert again.pair_counts(project.id).rejected == 1
    again.close()
    assert len(list(settings.data.glob("studio.db.damaged-*"))) >= 1


@pytest.mark.parametrize("how", ["cut off", "emptied", "gone over"])
def test_a_truncated_or_overwritten_database_is_told_and_comes_back(
    settings: Settings, store: Store, project: Project, pair: ImagePair, how: str
) -> None:
    store.add_verdict(Verdict("", pair.id, "Ann", "accept"))
    back_up(settings)
    store.close()
    damage(settings, 0, b"\0" * 100 if how == "gone over" else b"")
    if how != "gone over":
        data = settings.database.read_bytes()
        settings.database.write_bytes(data[: len(data) // 2 if how == "cut off" else 0])
    assert integrity_of(settings.database) != []
    assert repair(settings).verdicts == 0
    again = Store(settings.database)
    assert [one.verdict for one in again.list_verdicts(project.id)] == ["accept"]
    again.close()


def test_without_a_good_copy_nothing_is_touched(settings: Settings, store: Store) -> None:
    store.close()
    damage(settings)
    before = settings.database.read_bytes()
    with pytest.raises(BackupError, match="no good copy"):
        repair(settings)
    with pytest.raises(BackupError, match=r"cannot be copied|is damaged"):
        back_up(settings)
    assert settings.database.read_bytes() == before
    assert list_backups(settings) == []


def test_files_that_rows_name_are_looked_for(settings: Settings, store: Store, pair: ImagePair) -> None:
    assert [path.stem for path in missing_files(store, settings)] == ["ab" * 32, "cd" * 32]


NAMES = [one.name for one in migrations.pending(Database(memory=True))]


@pytest.mark.parametrize("reached", NAMES[1:])
def test_a_file_of_every_earlier_schema_comes_up_with_its_verdicts(tmp_path: Path, reached: str) -> None:
    """Nothing was released yet: every state that a file can have been in counts."""
    old = Database(tmp_path / "studio.db")
    migrations.apply(old, stop_before=reached)
    old.execute(
        "INSERT INTO projects (id, name, concept, checkpoint, detector, detector_settings, created) "
        "VALUES ('p', 'Sword', 'sword', 'toybox', 'toybox', '{}', 1)"
    )
    old.execute(
        "INSERT INTO prompt_pairs (id, project_id, unsafe, safe, count, seed) VALUES ('q', 'p', 'a', 'b', 1, 0)"
    )
    old.execute(
        'INSERT INTO image_pairs (id, project_id, prompt_pair_id, "index", seed, state, unsafe_image, safe_image, '
        "strength, tries, unsafe_score, safe_score, reason, created) "
        "VALUES ('i', 'p', 'q', 0, 1, 'ready', 'ab', 'cd', 0.7, 1, 0.9, 0.1, '', 1)"
    )
    old.execute(
        "INSERT INTO verdicts (id, pair_id, reviewer, verdict, reason, revealed, milliseconds, created) "
        "VALUES ('v', 'i', 'Ann', 'accept', 'clear', 0, 900, 1)"
    )
    old.execute(
        "INSERT INTO jobs (id, project_id, kind, config, state, step, total, message, error, result, created) "
        "VALUES ('j', 'p', 'pairs', '{}', 'queued', 0, 0, '', '', '{}', 0)"
    )
    old.conn.commit()
    old.close()
    store = Store(tmp_path / "studio.db")
    (verdict,) = store.list_verdicts("p")
    assert (verdict.reviewer, verdict.verdict, verdict.reason) == ("Ann", "accept", "clear")
    assert store.pair_counts("p").accepted == 1
    assert store.get_job("j").asked_by == ""
    store.close()
    assert integrity_of(tmp_path / "studio.db") == []
