"""Purge: a project's pictures are deleted for good, by its owner or when their time is over. Torch-free.

What goes is counted and told before (`plan`). Decisions, prompts, scores and the names (hashes) of the pictures stay,
for the audit. The rows change first, in one change; then the files go. A purge that was interrupted between the two is
finished by the next `finish`. Pictures that another project, or a pair that stays, shows too are not deleted.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from models.files import write_atomically
from studio.exchange.uploads import delete_upload
from studio.images import image_path, png_bytes, put_image
from studio.records import ImagePair, Purge, PurgeScope
from studio.settings import Settings
from studio.store import Store, StoreError

DAY = 86_400.0  # seconds
PURGED = {"purged": "yes"}  # in the text of a picture that stands for one that was deleted
RETENTION = "retention"  # in whose name pictures go whose time is over
SCOPES: dict[PurgeScope, str] = {
    "undecided": "undecided and rejected pairs",
    "pairs": "all pairs",
    "everything": "all pairs, samples, attempts, attacks and the pictures in reports",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a purge would delete."""

    scope: PurgeScope
    pairs: list[ImagePair]
    others: set[str]  # names of pictures that are no pair's
    files: list[Path]  # all that would be deleted or replaced
    shared: int  # pictures that stay, since something else shows them too

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files if file.is_file())


def plan(store: Store, settings: Settings, project_id: str, scope: PurgeScope, before: float | None = None) -> Plan:
    """What would go; with `before`, only pairs that were made and decided on before that moment."""
    if scope not in SCOPES:
        raise StoreError(f"There is no purge of {scope!r}; use {', '.join(SCOPES)}.")
    store.get_project(project_id)
    pairs = store.pairs_to_purge(project_id, scope, before)
    everything = scope == "everything"
    others = store.other_pictures(project_id) - {_name(_placeholder())} if everything else set()
    names = {name for pair in pairs for name in (pair.unsafe_image, pair.safe_image) if name} | others
    names |= store.edited_pictures([pair.id for pair in pairs])
    shared = store.needed_pictures(names, {pair.id for pair in pairs}, project_id if everything else "")
    files = [path for name in sorted(names - shared) if (path := image_path(settings, name)).is_file()]
    latents = _latents(settings)
    files += [file for pair in pairs for file in latents.get(pair.id, [])]
    if everything:
        files += [*_report_pictures(store, project_id), *settings.drawn.joinpath(project_id).glob("*.png")]
    if scope != "undecided":
        files += [file for folder in _uploads(store, settings, project_id) for file in folder.iterdir()]
    return Plan(scope, pairs, others, files, len(shared))


def purge(store: Store, settings: Settings, project_id: str, wanted: Plan, by: str, reason: str = "") -> Purge:
    """Delete what the plan names, as far as it is still so; returns what was booked.

    Raises StoreError where a job of the project runs or waits, or nobody says who it is.
    """
    if not by.strip():
        raise StoreError("Say who deletes the pictures: the name is kept for the audit.")
    if store.is_busy(project_id):
        raise StoreError(
            "A job of this project runs or waits, and may need the pictures. Stop it, or wait for its end."
        )
    placeholder = put_image(settings, _placeholder(), PURGED) if wanted.others else ""
    asked = Purge("", project_id, wanted.scope, by.strip(), reason.strip(), 0, len(wanted.files), wanted.bytes)
    booked = store.book_purge(asked, wanted.pairs, wanted.others, placeholder)
    _delete_pictures(store, settings, store.purged_names(booked.id))
    _delete_latents(settings, store.purged_pairs(project_id))
    if wanted.scope == "everything":
        for file in _report_pictures(store, project_id):
            write_atomically(file, _blank(file))
        shutil.rmtree(settings.drawn / project_id, ignore_errors=True)
    if wanted.scope != "undecided":
        for folder in list(_uploads(store, settings, project_id)):
            delete_upload(settings, folder)
    return booked


def purge_expired(store: Store, settings: Settings, now: float | None = None) -> list[Purge]:
    """Purge the undecided and rejected pairs whose project says that their time is over; projects at work wait."""
    now = time.time() if now is None else now
    done = []
    for project in store.list_projects():
        if project.retention_days and not store.is_busy(project.id):
            expired = plan(store, settings, project.id, "undecided", now - project.retention_days * DAY)
            if expired.pairs:
                reason = f"older than {project.retention_days} days"
                done.append(purge(store, settings, project.id, expired, RETENTION, reason))
    return done


def finish(store: Store, settings: Settings) -> None:
    """Delete what an interrupted purge left."""
    _delete_pictures(store, settings, store.purged_names())
    _delete_latents(settings, store.purged_pairs())


class RetentionWatch:
    """Looks every hour, in a thread of the page's process, for pictures whose time is over."""

    def __init__(self, store: Store, settings: Settings, interval: float = 3600.0) -> None:
        self.store, self.settings, self.interval = store, settings, interval
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        finish(self.store, self.settings)
        while True:
            try:
                purge_expired(self.store, self.settings)
            except (StoreError, OSError):  # the next hour tries again
                log.exception("Pictures whose time is over could not be purged.")
            if self._closing.wait(self.interval):
                self.store.close()
                return


def _latents(settings: Settings) -> dict[str, list[Path]]:
    """The latents of every try of each pair, by its id: pictures, to whoever has the checkpoint."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in settings.latents.glob("*.safetensors"):
        found[file.stem.partition("-")[0]].append(file)
    return found


def _delete_pictures(store: Store, settings: Settings, names: set[str]) -> None:
    there = {name for name in names if image_path(settings, name).is_file()}
    _delete(image_path(settings, name) for name in there - store.needed_pictures(there))


def _delete_latents(settings: Settings, pairs: Iterable[ImagePair]) -> None:
    found = _latents(settings)
    _delete(file for pair in pairs for file in found.get(pair.id, []))


def _delete(files: Iterable[Path]) -> None:
    for file in files:
        with suppress(FileNotFoundError):
            file.unlink()


def _report_pictures(store: Store, project_id: str) -> list[Path]:
    """Pictures that lie in the project's reports and were not replaced yet."""
    found = [file for report in store.list_evaluations(project_id) for file in Path(report.folder).rglob("*.png")]
    return [file for file in found if not _is_placeholder(file)]


def _is_placeholder(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            return "purged" in image.info
    except OSError:
        return False


def _uploads(store: Store, settings: Settings, project_id: str) -> Iterator[Path]:
    """What was uploaded for jobs of the project that never came to their end."""
    for job in store.list_jobs(project_id):
        folder = settings.data / str(job.config.get("path", ""))
        if job.kind == "bring" and folder.parent == settings.incoming and folder.is_dir():
            yield folder


def _placeholder(width: int = 64, height: int = 64) -> np.ndarray:
    """A grey picture that says what it stands for."""
    image = Image.new("RGB", (width, height), (208, 214, 211))
    ImageDraw.Draw(image).text((width / 2, height / 2), "purged", (70, 82, 77), anchor="mm")
    return np.asarray(image)


def _name(picture: np.ndarray) -> str:
    return hashlib.sha256(png_bytes(picture, PURGED)).hexdigest()


def _blank(file: Path) -> bytes:
    """A placeholder of the picture's own size, so that a report keeps its shape."""
    with Image.open(file) as image:
        width, height = image.size
    return png_bytes(_placeholder(width, height), PURGED)
