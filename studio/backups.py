"""Copies of the database, one a day while the page runs, and how it comes back from them. Torch-free.

A copy holds every row: projects, prompts, verdicts, jobs. Pictures and adapters are files beside it that never change
once they are written; a project with its files is one archive (`studio.archive`).
"""

from __future__ import annotations

import calendar
import fcntl
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from studio import jobs
from studio.images import image_path
from studio.salvage import Count, merge, rows_that_are_gone
from studio.settings import Settings
from studio.store import Store, StoreError, copy_database, integrity_of

KEPT = 7
IN_USE = 128  # the byte of the -shm file that SQLite locks as long as a connection is open: its file format, 2.3.2
DAY = 86_400.0
STAMP = "%Y%m%dT%H%M%SZ"
TAILS = ("", "-wal", "-shm")  # of the files that a database is
log = logging.getLogger(__name__)


class BackupError(ValueError):
    """The database cannot be copied or brought back; says why and what to do."""


@dataclass(frozen=True)
class Repaired:
    """What a repair did."""

    backup: Path
    damaged: Path
    counts: list[Count]  # a table each, of those that have rows or pages that could not be read


def list_backups(settings: Settings, now: float | None = None) -> list[Path]:
    """The newest first. One of the future was made while the clock was wrong, before all that were made since."""
    now = time.time() if now is None else now
    moments: dict[Path, float] = {}
    for path in settings.backups.glob("studio-*.db"):
        with suppress(ValueError):  # a copy of somebody's own
            moments[path] = _moment(path)
    return sorted(moments, key=lambda path: (moments[path] <= now, path.name), reverse=True)


def back_up(settings: Settings, now: float | None = None) -> Path:
    """Copy the database whole, at one moment, while others write; keep the newest KEPT. Raises BackupError."""
    now = time.time() if now is None else now
    name = time.strftime(f"studio-{STAMP}.db", time.gmtime(now))
    settings.backups.mkdir(parents=True, exist_ok=True)
    path, part = settings.backups / name, settings.backups / f".{name}.part"
    part.unlink(missing_ok=True)
    try:
        copy_database(settings.database, part)
        if wrong := integrity_of(part):
            raise BackupError(f"{settings.database} is damaged ({wrong[0]}): no copy was kept. Run doctor --repair.")
        part.replace(path)
    except (StoreError, OSError) as error:
        raise BackupError(f"{settings.database} cannot be copied to {settings.backups} ({error}).") from error
    finally:
        part.unlink(missing_ok=True)
    for old in list_backups(settings, now)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def repair(settings: Settings) -> Repaired:
    """Put the newest good copy in the place of a damaged database, which is kept under another name.

    Every row that can still be read in the damaged file and is newer than the copy's is put into it, see
    `studio.salvage`. Raises BackupError, and then nothing has changed.
    """
    if is_open_elsewhere(settings.database):
        raise BackupError(
            f"{settings.database} is open in another process, which would go on writing into the damaged file. Close "
            "the page and end the jobs first."
        )
    good = next((path for path in list_backups(settings) if not integrity_of(path)), None)
    if good is None:
        raise BackupError(
            f"There is no good copy in {settings.backups}. Restore {settings.database} from one of your own, or move "
            "it away and import projects from their archives."
        )
    part = settings.database.with_name(".studio.db.part")
    _remove(part)
    copy_database(good, part)
    Store(part).close()  # which brings a copy of an earlier version up
    counts = merge(settings.database, part, _moment(good))
    if wrong := integrity_of(part):
        raise BackupError(
            f"{good} and what is left of {settings.database} do not fit ({wrong[0]}): nothing was changed."
        )
    damaged = settings.database.with_name(f"studio.db.damaged-{time.strftime(STAMP, time.gmtime())}")
    for tail in TAILS:
        with suppress(FileNotFoundError):
            settings.database.with_name(settings.database.name + tail).rename(damaged.with_name(damaged.name + tail))
    part.replace(settings.database)
    _remove(part)
    return Repaired(good, damaged, [one for one in counts if one.is_told])


def is_open_elsewhere(database: Path) -> bool:
    """Whether another process on this machine has it open: as long as it does, it holds a lock beside the database."""
    try:
        with database.with_name(f"{database.name}-shm").open("r+b") as shared:
            fcntl.lockf(shared, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, IN_USE)
            return False
    except BlockingIOError:
        return True
    except OSError:  # nobody has opened it since it was closed whole, or the disk keeps no locks
        return False


def lost_rows(settings: Settings) -> int:
    """How many rows the newest good copy has that the database lacks, though nothing deletes such rows.

    A database that lost the log beside it is whole, and only older than it was.
    """
    newest = next(iter(list_backups(settings)), None)
    return 0 if newest is None or integrity_of(newest) else rows_that_are_gone(settings.database, newest)


def _moment(copy: Path) -> float:
    """When a copy was made, by its name: seconds since 1970."""
    return float(calendar.timegm(time.strptime(copy.name, f"studio-{STAMP}.db")))


def _remove(database: Path) -> None:
    for tail in TAILS:
        database.with_name(database.name + tail).unlink(missing_ok=True)


def missing_files(store: Store, settings: Settings) -> Iterator[Path]:
    """Files that rows name and that are not there."""
    for project in store.list_projects():
        for pair in store.list_image_pairs(project.id, "ready"):
            for name in filter(None, (pair.unsafe_image, pair.safe_image)):
                if not (path := image_path(settings, name)).is_file():
                    yield path
        for checkpoint in store.list_checkpoints(project.id):
            if not Path(checkpoint.path).is_file():
                yield Path(checkpoint.path)
        for evaluation_id in store.evaluation_ids(project.id):
            report = Path(store.get_evaluation(evaluation_id).folder) / "report.json"
            if not report.is_file():
                yield report


def stale_jobs(store: Store) -> list[str]:
    """Ids of jobs whose row says that they run, and whose process is gone; not of those that go on elsewhere."""
    gone = [job for job in store.list_jobs(states=jobs.LIVE) if not jobs.is_alive(job.pid, job.pid_started)]
    return [job.id for job in gone if not jobs.is_unattended(job)]


class BackupWatch(threading.Thread):
    """Copies the database once a day while the page runs; several servers of one folder share the day's copy."""

    def __init__(self, settings: Settings, interval: float = 3600.0) -> None:
        super().__init__(name="backups", daemon=True)
        self.settings, self.interval = settings, interval

    def run(self) -> None:
        while True:
            try:
                self.tick(time.time())
            except BackupError as error:
                log.error("%s", error)
            except OSError:
                log.exception("The database was not copied; trying again in an hour.")
            time.sleep(self.interval)

    def tick(self, now: float) -> Path | None:
        newest = next(iter(list_backups(self.settings, now)), None)
        due = newest is None or not 0 <= now - _moment(newest) < DAY
        return back_up(self.settings, now) if due else None
