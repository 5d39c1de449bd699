"""One project as one zip file: to move it to another machine, to keep it, and the sample that is shipped. Torch-free.

    archive.json        what made it: format, studio's version, and the notes that the maker adds
    rows.json           the project's rows, table by table
    images/…, latents/…, checkpoints/… and so on    the files that the rows name, as in the data folder

An archive may come from anybody. Names of files are taken from the rows and must be plain; pictures and adapters must
have the hash that their row names, and pictures be PNG files of a sensible size; report.html is written anew from
report.json, since a page could carry scripts, and no other page is taken. Nothing that is here already is written over,
no row may belong to another project, and no job comes in that a runner would start.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from pydantic import ValidationError

from models.files import write_atomically
from models.specs import LoadError, parse_reference
from studio import __version__
from studio.detector_configs import DETECTOR_CONFIGS
from studio.images import ImageError, image_path
from studio.records import FINAL_STATES, JobKind, Project
from studio.reports.html import write_html
from studio.reports.schema import StudyReport
from studio.settings import Settings
from studio.store import Store, StoreError
from studio.zip_files import leads_outside, too_large

FORMAT = 1
INFO, ROWS = "archive.json", "rows.json"
FOLDERS = ("images", "latents", "checkpoints", "evaluations", "embeddings")
NAMED_BY_HASH = ("images/", "embeddings/")
REPORT, REPORT_PAGE = "report.json", "report.html"
EVALUATED = (".json", ".png", ".webp")  # what is taken of an evaluation's folder
OWN_FOLDER = re.compile(r"evaluations/[\w-]+")  # of one evaluation: what lies in it is shown, and purged, as its own
# What is read of rows before the store checks them.
NAMED = {"image_pairs": ("id", "state"), "checkpoints": ("path", "sha256"), "evaluations": ("folder", "report"),
         "attack_runs": ("embedding",)}  # fmt: skip
INFO_LIMIT, ROWS_LIMIT = 2**20, 2**29  # bytes
PNG, MOST_PIXELS = b"\x89PNG\r\n\x1a\n", 64 * 2**20
BROKEN = (KeyError, TypeError, ValueError, OSError, EOFError, RuntimeError, NotImplementedError, RecursionError,
          zipfile.BadZipFile, zlib.error)  # fmt: skip


class ArchiveError(ValueError):
    """An archive that cannot be written or opened; says which file is wrong, why, and what to do."""


@dataclass(frozen=True)
class ArchiveInfo:
    """What an archive says of itself."""

    project_id: str
    project_name: str
    notes: dict[str, str]


def export_project(
    store: Store, settings: Settings, project_id: str, path: Path, notes: Mapping[str, str] | None = None
) -> int:
    """Write the project's rows and files; returns the archive's size in bytes.

    A job that has not ended goes in as stopped. States of half-done trainings and logs stay behind.

    Raises:
        ArchiveError: a file that the rows name is missing.
        NotFoundError: there is no such project.
    """
    project = store.get_project(project_id)
    rows = store.export_rows(project_id)
    info = {"format": FORMAT, "studio": __version__, "id": project.id, "name": project.name, "notes": dict(notes or {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            _add(archive, INFO, json.dumps(info, indent=1).encode())
            _add(archive, ROWS, json.dumps(rows).encode())
            for name in _file_names(store, settings, rows):
                file = settings.data / name
                if not file.is_file():
                    raise ArchiveError(f"{file} is missing, but project {project.name!r} needs it. Restore the file.")
                _add(archive, name, file.read_bytes())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path.stat().st_size


def read_info(path: Path) -> ArchiveInfo:
    """What the archive says of itself. Raises ArchiveError where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = json.loads(_read(archive, INFO, INFO_LIMIT))
        if info["format"] != FORMAT:
            raise ArchiveError(
                f"{path} has format {info['format']!r}, this studio reads {FORMAT}. Use the version that wrote it, "
                f"{info.get('studio')}, or export the project again."
            )
        if not all(isinstance(info[key], str) for key in ("id", "name")) or not isinstance(info["notes"], dict):
            raise TypeError("its id, name and notes are not texts")
        return ArchiveInfo(info["id"], info["name"], info["notes"])
    except ArchiveError:
        raise
    except BROKEN as error:
        raise ArchiveError(
            f"{path} is no project archive ({error}). Use a file that `projects export` wrote."
        ) from error


def import_project(store: Store, settings: Settings, path: Path) -> Project:
    """Put the archive's files and rows into the data folder; files first, so that no row names what is not there.

    Raises ArchiveError where a file is missing, damaged or wrongly named, or where the project is here already.
    """
    info = read_info(path)
    if any(project.id == info.project_id for project in store.list_projects()):
        raise ArchiveError(
            f"Project {info.project_name!r} ({info.project_id}) of {path} is here already. Open that one."
        )
    settings.create_folders()
    with zipfile.ZipFile(path) as archive:
        if why := too_large(archive, path, str(path)):
            raise ArchiveError(why)
        rows = _rows(archive, path, info)
        _check_rows(store, settings, rows, path)
        hashes = _hashes(rows)
        for name in sorted(_file_names(store, settings, rows, archive.namelist())):
            data = _checked(archive, path, name, hashes.get(name))
            _write_new(settings.data / name, name, data)
            if PurePosixPath(name).name == REPORT:
                _write_page(settings.data / name, data, path)
    try:
        store.import_rows(rows)
    except StoreError as error:
        raise ArchiveError(f"{path} cannot be imported: {error}") from error
    return store.get_project(info.project_id)


def _file_names(
    store: Store, settings: Settings, rows: dict[str, list[dict[str, Any]]], archived: list[str] | None = None
) -> Iterator[str]:
    """The files that rows name, relative to the data folder; evaluations' are those on disk or `archived`."""
    seen: set[str] = set()
    try:
        seen |= {
            image_path(settings, sha256).relative_to(settings.data).as_posix() for sha256 in store.image_names(rows)
        }
    except ImageError as error:
        raise ArchiveError(f"The archive's rows name a picture that cannot be: {error}") from error
    for row in rows.get("image_pairs", []):
        seen |= set(_latents(settings, row["id"], archived)) if row["state"] == "ready" else set()
    for row in rows.get("checkpoints", []):
        seen.add(row["path"])
    seen |= {f"embeddings/{row['embedding']}.safetensors" for row in rows.get("attack_runs", []) if row["embedding"]}
    for row in rows.get("evaluations", []):
        folder = row["folder"]
        _check_name(f"{folder}/{REPORT}")
        seen.add(f"{folder}/{REPORT}")
        if archived is None:
            inside = [file.relative_to(settings.data).as_posix() for file in (settings.data / folder).rglob("*")]
            inside = [name for name in inside if (settings.data / name).is_file()]
        else:
            inside = [name for name in archived if name.startswith(f"{folder}/")]
        seen |= {name for name in inside if PurePosixPath(name).suffix in EVALUATED}
    for name in sorted(seen):
        _check_name(name)
        yield name


def _latents(settings: Settings, pair_id: str, archived: list[str] | None) -> list[str]:
    """The latents of a pair: `<pair id>.safetensors`, or several tries' `<pair id>-<try>.safetensors`."""
    folder = settings.latents.relative_to(settings.data).as_posix()
    if archived is not None:
        return [n for n in archived if n.startswith((f"{folder}/{pair_id}.", f"{folder}/{pair_id}-"))]
    found = [*settings.latents.glob(f"{pair_id}.safetensors"), *settings.latents.glob(f"{pair_id}-*.safetensors")]
    return [file.relative_to(settings.data).as_posix() for file in found]


def _check_name(name: str) -> None:
    """Plain, relative, and inside one of the data folder's own folders. Raises ArchiveError."""
    if leads_outside(name) or ":" in name or PurePosixPath(name).parts[0] not in FOLDERS:
        raise ArchiveError(f"The archive names the file {name!r}, which does not lie in the data folder. Refused.")


def _hashes(rows: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """What adapters must hash to; pictures say it by their name."""
    return {row["path"]: row["sha256"] for row in rows.get("checkpoints", [])}


def _checked(archive: zipfile.ZipFile, path: Path, name: str, sha256: str | None) -> bytes:
    try:
        data = archive.read(name)
    except BROKEN as error:
        raise ArchiveError(f"{path} lacks {name}, or it is damaged ({error}). Export the project again.") from error
    if name.endswith(".png"):
        _check_picture(name, data)
    if name.startswith(NAMED_BY_HASH):
        sha256 = PurePosixPath(name).stem
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise ArchiveError(f"{name} in {path} has the SHA-256 {found}, not {sha256}: it was changed. Refused.")
    return data


def _check_picture(name: str, data: bytes) -> None:
    """A PNG file by its head alone: nothing is decoded. Raises ArchiveError."""
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if not data.startswith(PNG) or data[12:16] != b"IHDR":
        raise ArchiveError(f"{name} is no PNG file, whatever its name says. Refused.")
    if not 0 < width * height <= MOST_PIXELS:
        raise ArchiveError(f"{name} is {width:,} x {height:,} pixels, which no picture here is. Refused.")


def _read(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    size = archive.getinfo(name).file_size
    if size > limit:
        raise ArchiveError(f"{name} in the archive has {size:,} bytes; {limit:,} are the most. Refused.")
    return archive.read(name)


def _write_new(path: Path, name: str, data: bytes) -> None:
    """Write a file that is not there, or is the same. Raises ArchiveError: another project's is never written over."""
    if path.exists() and path.read_bytes() != data:
        raise ArchiveError(f"{name} is here already and differs: it belongs to another project. Refused.")
    write_atomically(path, data, sync=False)


def _rows(archive: zipfile.ZipFile, path: Path, info: ArchiveInfo) -> dict[str, list[dict[str, Any]]]:
    try:
        rows = json.loads(_read(archive, ROWS, ROWS_LIMIT))
        tables = {table: [dict(row) for row in rows[table]] for table in rows}
        if [row["id"] for row in tables.get("projects", [])] != [info.project_id]:
            raise ArchiveError(f"{path} does not hold exactly one project. Export the project again.")
        for job in tables.get("jobs", []):
            if job["state"] not in FINAL_STATES:
                raise ArchiveError(f"{path} holds a job that would start here by itself. Export the project again.")
            if job["kind"] not in get_args(JobKind):
                raise ArchiveError(f"{path} holds a job of the kind {job['kind']!r}, which this studio does not know.")
            if "place" in job:
                job["place"] = "{}"  # what lies at somebody's account is nobody else's to follow, cancel or delete
        for table, columns in NAMED.items():
            for row in tables.get(table, []):
                if not all(isinstance(row[column], str) for column in columns):
                    raise TypeError(f"a row of {table} lacks {' or '.join(columns)}")
    except ArchiveError:
        raise
    except BROKEN as error:
        raise ArchiveError(f"{path} has no rows that can be read ({error}). Export the project again.") from error
    return tables


def _check_rows(store: Store, settings: Settings, rows: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """What tables would take, and what would harm whoever opens the project or another one. Raises ArchiveError."""
    try:
        store.check_rows(rows)
        (project,) = rows["projects"]
        parse_reference(project["checkpoint"])
        if project["detector"] not in DETECTOR_CONFIGS:
            raise ArchiveError(f"{path} needs the detector {project['detector']!r}, which this studio does not have.")
        taken = {Path(one.folder) for one in store.list_evaluations()}
        for row in rows.get("evaluations", []):
            _check_name(row["folder"])
            if not OWN_FOLDER.fullmatch(row["folder"]) or settings.data / row["folder"] in taken:
                raise ArchiveError(f"{row['folder']} is no folder of an evaluation's own, which it must be. Refused.")
            StudyReport.model_validate_json(row["report"])
    except (StoreError, LoadError) as error:
        raise ArchiveError(f"{path} cannot be imported: {error}") from error
    except (ValidationError, RecursionError) as error:
        raise ArchiveError(f"A report in {path} is no report: {error}") from error
    except (KeyError, AttributeError) as error:
        raise ArchiveError(f"{path} has no rows that can be read ({error}). Export the project again.") from error


def _write_page(report: Path, data: bytes, path: Path) -> None:
    try:
        write_html(StudyReport.model_validate_json(data), report.parent)
    except (ValidationError, RecursionError) as error:
        raise ArchiveError(f"{report.name} in {path} is no report: {error}") from error


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """With a fixed time, so that the same project gives the same archive."""
    entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)
