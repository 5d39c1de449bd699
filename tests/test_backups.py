"""What becomes of the database when it is damaged, and how files of earlier versions come up."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from studio.backups import DAY, KEPT, BackupError, BackupWatch, back_up, list_backups, lost_rows, missing_files, repair
from studio.cli import main
from studio.migrations import migrations
from studio.records import ImagePair, Job, Project, PromptPair, PromptShelf, Verdict
from studio.settings import REPOSITORY, Settings
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
    watch, now = BackupWatch(settings), time.time()
    assert watch.tick(now) is not None
    assert watch.tick(now + 60) is None
    assert watch.tick(now + DAY + 60) is not None


def test_a_clock_that_was_wrong_for_a_while_ends_no_copies(settings: Settings, store: Store) -> None:
    watch, now = BackupWatch(settings), 1.8e9
    for day in range(KEPT):
        back_up(settings, now + 3650 * DAY + day * DAY)
    assert watch.tick(now) is not None
    assert watch.tick(now + 60) is None
    made = back_up(settings, now + 2 * DAY)
    assert list_backups(settings, now + 2 * DAY)[0] == made, "the newest, by which a repair goes"
    assert len(list_backups(settings)) == KEPT


def test_a_copy_of_somebodys_own_is_left_alone(settings: Settings, store: Store, project: Project) -> None:
    own = settings.backups / "studio-before.db"
    for day in range(KEPT + 1):
        back_up(settings, day * DAY)
        own.write_bytes(b"mine")
    store.close()
    damage(settings)
    repair(settings)
    assert own.read_bytes() == b"mine"
    assert own not in list_backups(settings)


def test_a_database_that_is_open_elsewhere_is_not_replaced(settings: Settings, store: Store, project: Project) -> None:
    """The page would go on writing into the file that was put aside."""
    back_up(settings)
    store.close()
    holding = "import sys; from pathlib import Path; from studio.store import Store; "
    holding += "s = Store(Path(sys.argv[1])); s.list_projects(); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holding, str(settings.database)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as page:
        assert page.stdout is not None
        page.stdout.readline()
        damage(settings)
        before = settings.database.read_bytes()
        with pytest.raises(BackupError, match="is open in another process"):
            repair(settings)
        assert settings.database.read_bytes() == before
        assert page.stdin is not None
        page.stdin.close()
    repair(settings)
    assert integrity_of(settings.database) == []


def test_what_was_decided_while_the_clock_was_ahead_is_not_lost(
    settings: Settings, store: Store, project: Project, pair: ImagePair
) -> None:
    back_up(settings)
    store.add_verdict(Verdict("", pair.id, "Ann", "accept", created=time.time() + 400 * DAY))
    store.close()
    damage(settings, data=b"")
    before = everything(settings)
    overwrite(settings, "jobs")
    repair(settings)
    assert everything(settings) == before


Rows = dict[str, set[tuple[object, ...]]]


def everything(settings: Settings) -> Rows:
    """Every row of every table."""
    with closing(sqlite3.connect(settings.database)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: set(db.execute(f'SELECT * FROM "{name}"')) for name in names if name[:7] not in ("sqlite_", "_sqlite")
        }


def write_pairs(store: Store, project: Project, name: str, count: int = 150) -> list[PromptPair]:
    """Prompts with a judged pair each: tables of several pages."""
    prompts = store.add_prompt_pairs(
        [PromptPair("", project.id, f"{name} {n}" + " long" * 40, "b") for n in range(count)]
    )
    with store.transaction():
        for n, prompt in enumerate(prompts):
            pair = store.add_image_pair(ImagePair("", project.id, prompt.id, 0, n, "ready", "ab" * 32, "cd" * 32))
            store.add_verdict(Verdict("", pair.id, "Ann", "accept" if n % 3 else "reject", name))
    return prompts


@pytest.fixture
def later(settings: Settings, store: Store, project: Project) -> Rows:
    """A copy was made, and then rows were added, changed and deleted: all rows as they were at last."""
    first, *_, unused = [
        *write_pairs(store, project, "old"),
        *store.add_prompt_pairs([PromptPair("", project.id, "a", "b")]),
    ]
    job = store.create_job(Job("", project.id, "train", {"long": "x" * 9000}))
    back_up(settings)
    write_pairs(store, project, "new")
    store.update_project(project.id, name="Renamed")
    store.update_job(job.id, state="stopped", finished=time.time())
    store.add_job_metrics(job.id, 3, {"loss": 0.5})
    store.update_prompt_pair(first.id, group="changed")
    store.remove_prompt_pair(unused.id)
    store.add_shelf(PromptShelf("", project.id, "aside", "a knight", 7, 2))
    store.close()
    damage(settings, data=b"")
    return everything(settings)


def overwrite(settings: Settings, *names: str) -> None:
    """Write over the first page, or the roots of these tables and indexes."""
    with closing(sqlite3.connect(settings.database)) as db:
        roots = dict(db.execute("SELECT name, rootpage FROM sqlite_master"))
    for name in names:
        damage(settings, (roots[name] - 1) * 4096 if name != "the head" else 0, bytes(range(256)) * 16)
    assert integrity_of(settings.database) != []


@pytest.mark.parametrize(
    "broken",
    [["the head"], ["sqlite_autoindex_image_pairs_1"], ["image_pairs", "verdicts"], ["prompt_pairs", "verdicts_pair"]],
    ids=" ".join,
)
def test_no_row_is_lost_with_the_root_of_its_tree(settings: Settings, later: Rows, broken: list[str]) -> None:
    """The leaves below are found without it."""
    overwrite(settings, *broken)
    counts = {one.table: one for one in repair(settings).counts}
    assert everything(settings) == later
    assert integrity_of(settings.database) == []
    assert (counts["verdicts"].copied, counts["verdicts"].added) == (150, 150)
    assert (counts["prompt_pairs"].newer, counts["prompt_pairs"].deleted) == (1, 1)
    assert counts["projects"].newer == counts["jobs"].newer == counts["job_metrics"].added == 1


def test_what_cannot_be_read_is_told_and_the_copy_has_the_rest(
    settings: Settings, later: Rows, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The jobs lie on one page, which is gone; what hangs on them is not."""
    overwrite(settings, "jobs")
    monkeypatch.setenv("DUO_STUDIO_DATA", str(settings.data))
    assert main(["doctor"]) == 1
    assert "is damaged" in " ".join(capsys.readouterr().out.split())
    main(["doctor", "--repair"])
    told = capsys.readouterr().out
    assert ["jobs", "1", "0", "0", "0"] in [line.split()[:5] for line in told.splitlines()], told
    now = everything(settings)
    ((state,),) = [[row[4]] for row in now["jobs"]]
    assert state == "queued", "as in the copy"
    assert {name for name in now if now[name] != later[name]} == {"jobs"}
    assert len(list(settings.data.glob("studio.db.damaged-*Z"))) == 1


def test_a_file_that_ends_too_early_gives_what_it_has(settings: Settings, later: Rows) -> None:
    data = settings.database.read_bytes()
    settings.database.write_bytes(data[: len(data) * 9 // 10 - 100])
    counts = {one.table: one for one in repair(settings).counts}
    now = everything(settings)
    assert integrity_of(settings.database) == []
    ids = {name: {row[0] for row in now[name]} for name in ("prompt_pairs", "image_pairs", "verdicts")}
    assert ids["verdicts"] < {row[0] for row in later["verdicts"]}
    assert 150 < len(ids["verdicts"]) == 150 + counts["verdicts"].added < 300
    lost = counts["image_pairs"]
    assert lost.is_least or lost.unreadable + lost.unfit == 300 - len(ids["image_pairs"])


def test_what_lies_in_the_log_alone_is_not_lost(
    settings: Settings, store: Store, project: Project, pair: ImagePair
) -> None:
    """A worker was killed, so nothing was put from the log into the file, whose pages are broken."""
    back_up(settings)
    written = write_pairs(store, project, "logged", 20)
    before = everything(settings)
    log = settings.database.with_name("studio.db-wal").read_bytes()
    store.close()
    assert len(everything(settings)["prompt_pairs"]) == 1 + len(written)
    settings.database.write_bytes(b"\0" * 8192)
    settings.database.with_name("studio.db-wal").write_bytes(log)
    repair(settings)
    assert everything(settings) == before


def test_a_file_that_lost_its_log_is_older_than_the_copy_and_takes_nothing_back(
    settings: Settings, store: Store, project: Project, pair: ImagePair, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    job = store.create_job(Job("", project.id, "pairs", {}))
    store.close()
    damage(settings, data=b"")
    old = settings.database.read_bytes()
    store.update_project(project.id, name="Renamed")
    store.update_job(job.id, state="done", finished=time.time())
    store.add_verdict(Verdict("", pair.id, "Ann", "accept"))
    before = everything(settings)
    back_up(settings)
    store.close()
    settings.database.write_bytes(old)
    assert lost_rows(settings) == 1
    work = Store(settings.database)  # which goes on before anybody sees it
    prompts = work.add_prompt_pairs([PromptPair("", project.id, "afterwards", "b")])
    work.close()
    monkeypatch.setenv("DUO_STUDIO_DATA", str(settings.data))
    main(["doctor"])
    assert "has 1 rows that the database lacks" in " ".join(capsys.readouterr().out.split())
    main(["doctor", "--repair"])
    now = everything(settings)
    assert {row[1] for row in now["projects"]} == {"Renamed"}
    assert {row[0] for row in now["prompt_pairs"] - before["prompt_pairs"]} == {prompts[0].id}
    assert {name for name in now if now[name] != before[name]} == {"prompt_pairs"}


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
    repair(settings)
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
