"""The sample project that is shipped: a finished demo in an archive, so that a newcomer has something to look at.

`make sample` makes it with the demo's own code and notes the commit and the embedded checkpoint that it belongs to.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from studio.archive import ArchiveError, export_project, import_project, read_info
from studio.records import Project
from studio.settings import REPOSITORY, Settings
from studio.store import NotFoundError, Store

SAMPLE = REPOSITORY / "studio" / "sample.zip"


class SampleError(ValueError):
    """The sample cannot be opened; says why and what to do instead."""


def toybox_fingerprint(folder: Path) -> str:
    """SHA-256 over the embedded checkpoint's weight files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@cache
def sample_id(sample: Path = SAMPLE) -> str:
    """The id that the sample project has wherever it is opened; "" where the archive cannot be read."""
    try:
        return read_info(sample).project_id
    except ArchiveError:
        return ""


def open_sample(store: Store, settings: Settings, sample: Path = SAMPLE) -> Project:
    """The sample project, unpacked at the first call. Raises SampleError."""
    instead = "Run the demo in the Report tab instead: it makes the same from zero, in about 8 minutes."
    try:
        info = read_info(sample)
        try:
            return store.get_project(info.project_id)
        except NotFoundError:
            pass
        if info.notes.get("toybox") != toybox_fingerprint(settings.toybox):
            raise SampleError(f"The sample was made with another embedded checkpoint than {settings.toybox}. {instead}")
        return import_project(store, settings, sample)
    except ArchiveError as error:
        raise SampleError(f"The sample project cannot be opened: {error} {instead}") from error


def begin_with_a_project(store: Store, settings: Settings) -> None:
    """A first, empty project where there is none; in a public demo the sample too."""
    if not store.list_projects():
        store.create_project(Project(id="", name="Sword", concept="sword", checkpoint="toybox", detector="toybox"))
        if settings.public_demo:
            with suppress(SampleError):
                open_sample(store, settings)


def main() -> int:
    """`python -m studio.sample`: write the newest project of the data folder to `SAMPLE`."""
    settings = Settings.from_environment()
    store = Store(settings.database)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    notes = {"commit": commit.stdout.strip(), "toybox": toybox_fingerprint(settings.toybox)}
    project = store.update_project(store.list_projects()[-1].id, name="Sword (sample)")
    size = export_project(store, settings, project.id, SAMPLE, notes)
    store.close()
    print(f"{SAMPLE}: {size / 2**20:.1f} MiB, of commit {notes['commit'][:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
