"""What nobody needs any more under the data folder: pictures that no row names, old logs, files of killed writers.

Compare keeps each picture that it draws as a file and in no row, so such pictures add up. Torch-free.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from models.files import is_temporary
from studio.images import SHA256
from studio.jobs import log_path
from studio.settings import Settings
from studio.store import Store

DAY = 86_400.0  # seconds
TEMPORARY_AGE = DAY  # no write takes as long: its writer was killed
TRY = 12  # characters of a hash, by which a try's latents are named: see studio.workflow.latents


@dataclass(frozen=True)
class Unused:
    """Files of one kind that can go."""

    what: str
    files: Sequence[Path]

    @property
    def bytes(self) -> int:
        inside = (inner for path in self.files for inner in (path, *path.rglob("*")))
        return sum(file.stat().st_size for file in inside if file.is_file())


def find_unused(store: Store, settings: Settings, days: float) -> list[Unused]:
    """All that can go: pictures and logs older than `days`, and temporary files older than one day."""
    before = time.time() - days * DAY
    return [
        Unused("pictures that nothing refers to", sorted(_pictures(store, settings, before))),
        Unused("pictures that evaluations keep for the next one", sorted(_drawn(settings, before))),
        Unused("logs of jobs that have ended", sorted(_logs(store, settings, before))),
        Unused("latents of no pair or try", sorted(_latents(store, settings))),
        Unused("files that were never written to their end", sorted(_temporary(settings))),
        Unused("uploads and packed sets that were left behind", sorted(_left_behind(store, settings))),
    ]


def delete(unused: Unused) -> int:
    """Delete these files, and folders whole; returns how many. One that is gone, or cannot go, is passed over."""
    count = 0
    for file in unused.files:
        with suppress(OSError):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
            count += 1
    return count


def delete_temporary(store: Store, settings: Settings) -> int:
    """Delete what killed writers and visitors left; returns how many files. Cheap enough for every start of a page."""
    count = delete(Unused("", [*_temporary(settings), *_left_behind(store, settings)]))
    for folder in (settings.incoming, settings.outgoing):
        for inside in sorted(folder.rglob("*/"), reverse=True):
            with suppress(OSError):  # it is not empty
                inside.rmdir()
    return count


def _pictures(store: Store, settings: Settings, before: float) -> Iterator[Path]:
    """Only files that are named as `studio.images` names them. One that is used again counts as new: see put_image."""
    old = [path for path in settings.images.glob("??/*.png") if SHA256.fullmatch(path.stem) and _older(path, before)]
    named = store.mentioned_hashes()  # after the files: what is made meanwhile is named or new
    return (path for path in old if path.stem not in named and _older(path, before))


def _drawn(settings: Settings, before: float) -> Iterator[Path]:
    """They are drawn again where they are wanted; the reports have their own copies."""
    return (path for path in settings.drawn.glob("*/*.png") if _older(path, before))


def _logs(store: Store, settings: Settings, before: float) -> Iterator[Path]:
    for job in store.list_jobs():
        path = log_path(settings, job.id)
        if job.is_final and (job.finished or 0) < before and _older(path, before):
            yield path


def _latents(store: Store, settings: Settings) -> Iterator[Path]:
    """Of pairs whose worker was killed before the pair had a row, and of tries that no pair, edit or training names any
    more: to whoever has the checkpoint they are pictures.
    """
    before = time.time() - TEMPORARY_AGE
    old = [file for file in settings.latents.glob("*.safetensors") if _older(file, before)]
    known = store.all_pair_ids()  # after the files: what is made meanwhile is known or new
    tries = {sha256[:TRY] for sha256 in store.mentioned_hashes()}
    for file in old:
        pair, _, made = file.stem.partition("-")
        if pair not in known or (len(made) == TRY and made not in tries):
            yield file


def _left_behind(store: Store, settings: Settings) -> Iterator[Path]:
    """Uploads that no unfinished job is going to read, and sets that were packed to be sent."""
    before = time.time() - TEMPORARY_AGE
    jobs = store.list_jobs(states=("queued", "running", "stopping", "stopped", "failed"))
    paths = [(job.kind, Path(str(job.config.get("path", "")))) for job in jobs]
    wanted = {path.name for kind, path in paths if kind == "bring"}
    wanted |= {path.parent.name for kind, path in paths if kind == "import"}  # one file of an upload
    for folder in settings.incoming.glob("*"):
        if folder.name not in wanted:
            yield from (file for file in folder.rglob("*") if _older(file, before))
    yield from (file for file in settings.outgoing.rglob("*") if _older(file, before))


def _temporary(settings: Settings) -> Iterator[Path]:
    before = time.time() - TEMPORARY_AGE
    for folder in (settings.images, settings.latents, settings.checkpoints, settings.evaluations):
        yield from (path for path in folder.rglob(".*") if is_temporary(path) and _older(path, before))
    for folder in settings.exports.glob("*/.*"):  # half a model; its job, run again, clears it away itself
        if is_temporary(folder) and folder.is_dir() and not folder.is_symlink() and folder.stat().st_mtime < before:
            yield folder


def _older(path: Path, before: float) -> bool:
    """Whether this is a file that was last written before then; a link is never ours."""
    try:
        return path.is_file() and not path.is_symlink() and path.stat().st_mtime < before
    except OSError:
        return False
